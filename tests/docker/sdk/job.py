"""A typical job through docker-py: job.py IMAGE. Ends with 0 when every step gave what dockerd gives."""

import sys
import threading

import docker

image, tag = sys.argv[1].rsplit(":", 1)
client = docker.from_env(timeout=60)


def same(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r} in place of {expected!r}")


assert client.ping()
pulled = client.images.pull(image, tag=tag)
same("tags", f"{image}:{tag}" in pulled.tags, True)

# Events are followed while everything else happens.
actions = []
events = client.events(decode=True, filters={"type": "container", "label": "job=python"})


def follow():
    for event in events:
        actions.append(event["Action"].split(":")[0])
        if event["Action"] == "destroy":
            return


follower = threading.Thread(target=follow, daemon=True)
follower.start()

script = "read word; echo out $word; echo err >&2; exec sleep 1000"
container = client.containers.create(
    f"{image}:{tag}", ["sh", "-c", script], name="python", stdin_open=True, environment={"A": "1"}, labels={"job": "python"}
)
same("status", container.status, "created")
attached = container.attach_socket(params={"stdin": 1, "stream": 1})
container.start()
attached._sock.sendall(b"word\n")

# The log is followed until the second line has come.
seen = b""
for piece in container.logs(stream=True, follow=True):
    seen += piece
    if b"out word\n" in seen and b"err\n" in seen:
        break
same("log", sorted(seen.splitlines()), [b"err", b"out word"])
attached.close()

container.reload()
same("status", container.status, "running")
same("list", [one.name for one in client.containers.list(filters={"label": "job=python"})], ["python"])

code, (out, err) = container.exec_run(["sh", "-c", "echo $A; echo e >&2; exit 3"], demux=True)
same("exec", (code, out, err), (3, b"1\n", b"e\n"))
code, out = container.exec_run("nosuch")
same("exec of nothing", (code in (126, 127), b"executable file not found" in out), (True, True))
_, pieces = container.exec_run(["sh", "-c", "echo a; echo b"], stream=True)
same("exec, streamed", b"".join(pieces), b"a\nb\n")


# One that is attached to before it starts: nothing of what it says at once is lost.
quick = client.containers.create(f"{image}:{tag}", ["sh", "-c", "echo o; echo e >&2"])
said = quick.attach(stdout=True, stderr=True, stream=True, demux=True)
quick.start()
said = list(said)
same("attached, out", b"".join(out for out, _ in said if out), b"o\n")
same("attached, err", b"".join(err for _, err in said if err), b"e\n")
quick.wait()
same("attached, earlier", sorted(quick.attach(logs=True).splitlines()), [b"e", b"o"])
same("attached to nothing", quick.attach(logs=False), b"")
quick.remove(force=True)

stats = container.stats(stream=False)
same("stats", (stats["pids_stats"]["current"], stats["memory_stats"]["usage"] > 0), (1, True))
same("top", container.top()["Processes"][0][-1], "sleep 1000")

container.stop(timeout=0)
same("wait", container.wait()["StatusCode"], 137)
container.remove()
follower.join(30)
same("events", [one for one in actions if one in ("create", "start", "die", "destroy")], ["create", "start", "die", "destroy"])

same("run", client.containers.run(f"{image}:{tag}", ["echo", "hi"], remove=True), b"hi\n")
pieces = client.containers.run(f"{image}:{tag}", ["sh", "-c", "echo a; echo b"], remove=True, stream=True)
same("run, streamed", b"".join(pieces), b"a\nb\n")
try:
    client.containers.run(f"{image}:{tag}", ["sh", "-c", "echo no >&2; exit 4"], remove=True)
    sys.exit("a failing program did not fail")
except docker.errors.ContainerError as error:
    same("failing", (error.exit_status, error.stderr), (4, b"no\n"))
for failing, expected in [
    (lambda: client.containers.get("nosuch"), docker.errors.NotFound),
    (lambda: client.images.get("nosuch"), docker.errors.ImageNotFound),
]:
    try:
        failing()
        sys.exit(f"no {expected.__name__}")
    except expected:
        pass
same("left", client.containers.list(all=True), [])
print("docker-py: done")
