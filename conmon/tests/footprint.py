#!/usr/bin/env python3
"""What a monitor costs: memory of N at once, processor time of a 200 MB log, processor time of its own in a start
(`own_ms`: from its execve to the answer, without the runtime's processes).

    footprint.py <cleat-conmon> [<containers>]

Needs root, /bin/busybox (static) and cgroups. Runs the monitor as cleatd does: from one sealed memfd, with a socket
as its standard input. Takes everything away again.
"""
import contextlib, fcntl, glob, json, os, shutil, socket, struct, subprocess, sys, tempfile, time

F_ADD_SEALS, ALL_SEALS = 1033, 0xF
LOG_LINES, LOG_LINE_BYTES = 2_000_000, 100


def sealed(path):
    """A sealed memfd with the program at `path`."""
    memfd = os.memfd_create("cleat-conmon", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(path, "rb") as program:
        os.sendfile(memfd, program.fileno(), 0, os.fstat(program.fileno()).st_size)
    fcntl.fcntl(memfd, F_ADD_SEALS, ALL_SEALS)
    return memfd


class Container:
    """One monitor with a container that runs `script`."""

    def __init__(self, memfd, folder, number, script):
        self.id = f"footprint-{os.getpid()}-{number}"
        self.folder = os.path.join(folder, self.id)
        self.log = os.path.join(self.folder, "0.log")
        root = os.path.join(self.folder, "rootfs")
        for name in ("bin", "proc", "dev"):
            os.makedirs(os.path.join(root, name))
        os.mkdir(os.path.join(self.folder, "state"), 0o700)
        os.link(os.path.join(folder, "busybox"), os.path.join(root, "bin", "busybox"))
        config = {
            "ociVersion": "1.2.0",
            "process": {"args": ["/bin/busybox", "sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/",
                        "user": {"uid": 0, "gid": 0}},
            "root": {"path": root},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                      "cgroupsPath": "/" + self.id, "resources": {}},
        }
        with open(os.path.join(self.folder, "config.json"), "w") as file:
            json.dump(config, file)
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.settimeout(60)
        before = time.monotonic()
        self.process = subprocess.Popen(["cleat-conmon"], executable=f"/proc/self/fd/{memfd}", stdin=theirs,
                                        stdout=subprocess.DEVNULL, close_fds=False)
        theirs.close()
        self.ask({"version": 1, "id": self.id, "bundle": self.folder, "state_dir": os.path.join(self.folder, "state"),
                  "rootfs": "ready", "log": {"cri": {"path": self.log}}, "stdin": "null", "terminal": False})
        self.created_ms = (time.monotonic() - before) * 1000
        self.own_ms = self.cpu_seconds() * 1000
        self.ask("start")
        self.started_ms = (time.monotonic() - before) * 1000

    def ask(self, message):
        payload = json.dumps(message).encode()
        self.connection.sendall(struct.pack("<I", len(payload)) + payload)
        answer = self.receive()
        if isinstance(answer, dict) and "failed" in answer:
            raise SystemExit(f"{self.id}: {answer}")
        return answer

    def receive(self):
        (length,) = struct.unpack("<I", self.connection.recv(4, socket.MSG_WAITALL))
        return json.loads(self.connection.recv(length, socket.MSG_WAITALL))

    def cpu_seconds(self):
        """Of the monitor alone, without children it has reaped."""
        with open(f"/proc/{self.process.pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9

    def remove(self):
        for procs in glob.glob(f"/sys/fs/cgroup/**/{self.id}/cgroup.procs", recursive=True):
            with contextlib.suppress(OSError), open(procs) as file:
                for pid in file.read().split():
                    os.kill(int(pid), 9)
        self.process.wait(30)


def memory(pid):
    """smaps_rollup in KiB, and the same by kind of mapping."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        rollup = {key: int(rest.split()[0]) for key, rest in (line.split(":", 1) for line in file if ":" in line[:20])
                  if rest.split()[0].isdigit()}
    kinds, kind = {}, ""
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            if line[0] in "0123456789abcdef" and "-" in line.split()[0]:
                fields = line.split()
                kind = f"{fields[5] if len(fields) > 5 else 'anonymous'} {fields[1]}"
            elif line.startswith("Pss:"):
                kinds[kind] = kinds.get(kind, 0) + int(line.split()[1])
    return rollup, kinds


def measure_memory(memfd, folder, count):
    containers = []
    try:
        for number in range(count):
            containers.append(Container(memfd, folder, f"{count}-{number}", "exec /bin/busybox sleep 600"))
        time.sleep(0.5)
        figures = [memory(container.process.pid) for container in containers]
        pss = sorted(rollup["Pss"] for rollup, _ in figures)
        print(f"{count} monitors: PSS each min {pss[0]} median {pss[len(pss) // 2]} max {pss[-1]} KiB")
        for kind, kib in sorted(figures[count // 2][1].items(), key=lambda item: -item[1]):
            if kib:
                print(f"    {kib:5} KiB  {kind}")
        for what in ("created_ms", "own_ms", "started_ms"):
            times = sorted(getattr(container, what) for container in containers)
            print(f"{what}: min {times[0]:.2f} median {times[len(times) // 2]:.2f}")
    finally:
        for container in containers:
            container.remove()


def measure_log(memfd, folder, what, script):
    container = Container(memfd, folder, what, script + "; echo done; exec /bin/busybox sleep 600")
    try:
        before = time.monotonic()
        while not tail(container.log).endswith(b" stdout F done\n"):
            time.sleep(0.005)
        wall, seconds = time.monotonic() - before, container.cpu_seconds()
        with open(container.log, "rb") as log:
            lines = sum(block.count(b"\n") for block in iter(lambda: log.read(1 << 20), b"")) - 1
        print(f"{what}: {seconds:.3f} CPU s, {wall:.2f} s, {lines} lines, {os.path.getsize(container.log) / 1e6:.0f} MB, "
              f"PSS afterwards {memory(container.process.pid)[0]['Pss']} KiB")
    finally:
        container.remove()


def tail(path):
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 64))
        return file.read()


def main():
    program, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 50
    memfd = sealed(program)
    print(f"{program}: {os.fstat(memfd).st_size / 1024:.0f} KiB")
    folder = tempfile.mkdtemp(prefix="footprint-")
    try:
        shutil.copy("/bin/busybox", os.path.join(folder, "busybox"))
        measure_memory(memfd, folder, 1)
        measure_memory(memfd, folder, count)
        line = "x" * (LOG_LINE_BYTES - 1)
        measure_log(memfd, folder, "blocks", f"/bin/busybox yes {line} | /bin/busybox head -n {LOG_LINES}")
        measure_log(memfd, folder, "single-lines", f"n=0; while [ $n -lt 300000 ]; do echo {line}; n=$((n+1)); done")
    finally:
        shutil.rmtree(folder)


main()
