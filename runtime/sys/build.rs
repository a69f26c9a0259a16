//! Link options of the pause program alone: no start files, no libraries.

fn main() {
    let options = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-Wl,-z,norelro",
        "-Wl,-z,noseparate-code",
    ];
    for option in options {
        println!("cargo::rustc-link-arg-bin=cleat-pause={option}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
