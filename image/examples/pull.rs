//! Pull one image into a store: `pull STORE REFERENCE [REGISTRIES_CONF]`. For trying out and for measuring.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use cleat_image::{Limits, Puller, Registries, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, root, name, config @ ..] = arguments.as_slice() else {
        return Err("usage: pull STORE REFERENCE [REGISTRIES_CONF]".into());
    };
    let config = config.first().map_or(cleat_image::registries::DEFAULT_FILE, String::as_str);
    let registries =
        Registries::load(Path::new(config), Path::new(cleat_image::registries::DEFAULT_DROP_INS))?;
    let puller = Puller::new(Store::open(Path::new(root))?, registries, Limits::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let begun = Instant::now();
    let reference = puller.candidates(name)?.remove(0);
    let image = runtime.block_on(puller.pull(&reference, None))?;
    println!("{} {} bytes in {:.3} s", image.id, image.size_bytes, begun.elapsed().as_secs_f64());
    runtime.block_on(puller.shutdown());
    Ok(())
}
