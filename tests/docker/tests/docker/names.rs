//! Names on networks of one's own, asked for by the programs in the containers.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

/// Answers each question by UDP with 192.0.2.53, and says when it does.
const OTHER_SERVER: &str = "
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.1', 53))
print('ready', flush=True)
while True:
    query, client = server.recvfrom(512)
    answer = bytes([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53])
    server.sendto(query[:2] + bytes([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]) + query[12:] + answer, client)
";

/// A name server on the engine's host. It ends with the test.
struct OtherServer(Child);

impl OtherServer {
    fn start(engine: &Engine) -> Result<Self> {
        let mut command = engine.world().command("python3");
        command.args(["-c", OTHER_SERVER]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut server = Self(command.spawn().context("start a name server")?);
        let output = server.0.stdout.take().context("output of the name server")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("read from the name server")?;
        ensure!(line == "ready\n", "the name server said {line:?}");
        Ok(server)
    }
}

impl Drop for OtherServer {
    fn drop(&mut self) {
        // It may have ended by itself, which a test notices before.
        for result in [self.0.kill(), self.0.wait().map(drop)] {
            if let Err(error) = result {
                eprintln!("end the name server: {error}");
            }
        }
    }
}

/// The IPv4 addresses that the program in `container` finds for `name`, in order of size.
fn found(engine: &Engine, container: &str, name: &str) -> Result<Vec<String>> {
    let said = engine.docker(&["exec", container, "nslookup", "-type=a", name])?;
    let mut found: Vec<_> =
        said.out.lines().filter_map(|line| line.strip_prefix("Address: ")).map(str::to_owned).collect();
    ensure!((said.code == 0) != found.is_empty() && said.out.contains("127.0.0.11"), "{name}: {said:?}");
    found.sort();
    Ok(found)
}

/// The address of `container` on `network`.
fn address(engine: &Engine, container: &str, network: &str) -> Result<String> {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    engine.run(&["inspect", "-f", &format, container])
}

fn run(engine: &Engine, name: &str, options: &[&str]) -> Result<String> {
    let all = [&["run", "-d", "--name", name], options, &[BUSYBOX, "sleep", "1000"]].concat();
    engine.run(&all)
}

#[test]
fn privileged_docker_names_are_of_those_who_share_a_network() {
    check(|engine| {
        engine.run(&["network", "create", "n1"])?;
        engine.run(&["network", "create", "n2"])?;
        let id = run(engine, "c1", &["--network", "n1", "--network-alias", "web"])?;
        run(engine, "c2", &["--network", "n1", "--network-alias", "web"])?;
        run(engine, "c3", &["--network", "n2", "--network-alias", "web"])?;
        let (first, second) = (address(engine, "c1", "n1")?, address(engine, "c2", "n1")?);
        let third = address(engine, "c3", "n2")?;
        for name in ["c1", "C1", "c1.n1", &id[..12]] {
            ensure!(found(engine, "c2", name)? == std::slice::from_ref(&first), "{name}");
        }
        let mut both = vec![first.clone(), second];
        both.sort();
        ensure!(found(engine, "c1", "web")? == both);
        ensure!(found(engine, "c1", "c1")? == std::slice::from_ref(&first), "itself");
        let reverse = engine.run(&["exec", "c2", "nslookup", &first])?;
        ensure!(reverse.contains("name = c1.n1"), "{reverse}");
        let file = engine.run(&["exec", "c1", "cat", "/etc/resolv.conf"])?;
        ensure!(file.contains("nameserver 127.0.0.11\n") && file.contains("ndots:0"), "{file}");

        engine.run(&["network", "connect", "--alias", "more", "n2", "c1"])?;
        ensure!(found(engine, "c1", "c3")? == std::slice::from_ref(&third));
        ensure!(found(engine, "c3", "more")? == [address(engine, "c1", "n2")?]);
        ensure!(found(engine, "c1", "web.n2")? == [third], "the other network's");
        engine.run(&["network", "disconnect", "n1", "c1"])?;
        ensure!(found(engine, "c1", "c2")?.is_empty(), "no network is shared any more");

        engine.cleat().kill()?;
        engine.cleat().start()?;
        ensure!(found(engine, "c3", "more")? == [address(engine, "c1", "n2")?], "the successor's answer");
        engine.run(&["rm", "-f", "c1", "c2", "c3"])?;
        engine.run(&["network", "rm", "n1", "n2"]).map(drop)
    });
}

#[test]
fn privileged_docker_names_of_others_are_asked_for_outside_unless_the_network_is_internal() {
    check(|engine| {
        let _server = OtherServer::start(engine)?;
        engine.run(&["network", "create", "out"])?;
        engine.run(&["network", "create", "--internal", "in"])?;
        run(engine, "c1", &["--network", "out", "--dns", "127.0.0.1", "--dns-search", "example.org"])?;
        run(engine, "c2", &["--network", "in", "--dns", "127.0.0.1"])?;
        ensure!(found(engine, "c1", "www.example.org")? == ["192.0.2.53"]);
        let file = engine.run(&["exec", "c1", "cat", "/etc/resolv.conf"])?;
        ensure!(file.contains("search example.org\n") && !file.contains("nameserver 127.0.0.1\n"), "{file}");
        let refused = engine.docker(&["exec", "c2", "nslookup", "www.example.org"])?;
        ensure!(refused.code == 1 && refused.out.contains("SERVFAIL"), "{refused:?}");
        ensure!(found(engine, "c2", "c2")?.len() == 1);
        engine.run(&["rm", "-f", "c1", "c2"])?;
        engine.run(&["network", "rm", "out", "in"]).map(drop)
    });
}
