//! Networks of their users' own: who reaches whom, what clients are told, and that they last.

use anyhow::{Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

/// Runs a server of `name` for ever on port 80, with further arguments of `docker run`.
fn serve(engine: &Engine, name: &str, arguments: &[&str]) -> Result<String> {
    let serve = format!("nc -ll -p 80 -e echo {name}");
    let run = ["run", "-d", "--name", name];
    engine.run(&[&run[..], arguments, &[BUSYBOX, "sh", "-c", &serve]].concat())
}

/// What the server at `address` says to the container `from`; none where it cannot be reached.
fn ask(engine: &Engine, from: &str, address: &str) -> Result<Option<String>> {
    let line = format!("nc -w 2 {address} 80 < /dev/null");
    let said = engine.docker(&["exec", from, "sh", "-c", &line])?;
    Ok(Some(said.out.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// What the host's port 8080 leads to.
fn published(engine: &Engine) -> Result<String> {
    let said = engine.world().shell("timeout 5 bash -c 'cat < /dev/tcp/127.0.0.1/8080'")?;
    Ok(said.trim().to_owned())
}

fn address(engine: &Engine, container: &str, network: &str) -> Result<String> {
    let format = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    engine.run(&["inspect", "-f", &format, container])
}

fn inspected(engine: &Engine, container: &str, field: &str) -> Result<String> {
    engine.run(&["inspect", "-f", &format!("{{{{{field}}}}}"), container])
}

#[test]
fn privileged_docker_networks_are_made_listed_and_removed() {
    check(|engine| {
        let id = engine.run(&["network", "create", "--label", "a=1", "n1"])?;
        ensure!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        let subnet = "{{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}}";
        ensure!(engine.run(&["network", "inspect", "-f", subnet, "n1"])? == "172.18.0.0/16 172.18.0.1");
        ensure!(engine.world().shell(&format!("ip -o link show br-{}", &id[..12]))?.contains("br-"));
        let whole = [
            "network",
            "create",
            "--subnet",
            "172.30.9.0/24",
            "--gateway",
            "172.30.9.254",
            "--ip-range",
            "172.30.9.128/25",
            "--internal",
            "--opt",
            "com.docker.network.bridge.name=br-own",
            "n2",
        ];
        engine.run(&whole)?;
        ensure!(engine.world().shell("ip -o address show br-own")?.contains("172.30.9.254/24"));

        for (arguments, words) in [
            (&["network", "create", "n1"][..], "network with name n1 already exists"),
            (&["network", "create", "--subnet", "172.18.5.0/24", "n3"], "Pool overlaps"),
            (&["network", "create", "--driver", "nosuch", "n3"], "plugin \"nosuch\" not found"),
            (&["network", "create", "bridge"], "not permitted on predefined"),
            (&["network", "rm", "bridge"], "pre-defined network"),
            (&["network", "inspect", "nosuch"], "network nosuch not found"),
        ] {
            let refused = engine.docker(arguments)?;
            ensure!(refused.code == 1 && refused.err.contains(words), "{arguments:?}: {refused:?}");
        }
        for (filter, names) in [
            ("name=n", "n1\nn2\nnone"),
            ("label=a=1", "n1"),
            ("type=custom", "n1\nn2"),
            ("dangling=true", "n1\nn2"),
            (&format!("id={}", &id[..12]), "n1"),
        ] {
            let listed = engine.run(&["network", "ls", "--filter", filter, "--format", "{{.Name}}"])?;
            ensure!(listed == names, "{filter}: {listed}");
        }

        // They last.
        engine.cleat().kill()?;
        engine.cleat().start()?;
        ensure!(engine.run(&["network", "inspect", "-f", "{{.Id}}", &id[..6]])? == id);
        engine.run(&["network", "rm", &id[..12]])?;
        ensure!(engine.run(&["network", "create", "n1"])? != id);
        let pruned = engine.run(&["network", "prune", "-f"])?;
        ensure!(pruned.contains("n1") && pruned.contains("n2"), "{pruned}");
        ensure!(engine.run(&["network", "ls", "-q"])?.lines().count() == 3);
        ensure!(!engine.world().shell("ip -o link; nft list tables")?.contains("br-"));
        Ok(())
    });
}

#[test]
fn privileged_docker_networks_are_apart_but_for_published_ports() {
    check(|engine| {
        for name in ["n1", "n2"] {
            engine.run(&["network", "create", name])?;
        }
        engine.run(&["network", "create", "--internal", "inner"])?;
        serve(engine, "c0", &["-p", "8080:80"])?;
        serve(engine, "c1", &["--network", "n1", "-p", "8081:80"])?;
        serve(engine, "c2", &["--network", "n2"])?;
        serve(engine, "mate", &["--network", "n1"])?;
        serve(engine, "hidden", &["--network", "inner"])?;
        let places = [("c0", "bridge"), ("c1", "n1"), ("c2", "n2"), ("hidden", "inner")];
        for (to, network) in places {
            let address = address(engine, to, network)?;
            for (from, _) in places {
                let said = ask(engine, from, &address)?;
                ensure!(said == (from == to).then(|| to.to_owned()), "{from} to {to}: {said:?}");
            }
        }
        let of_c1 = address(engine, "c1", "n1")?;
        ensure!(ask(engine, "mate", &of_c1)?.as_deref() == Some("c1"));
        for (from, reaches) in [("c0", true), ("c2", true), ("mate", true), ("hidden", false)] {
            let line = "nc -w 2 $(ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p') 8081 < /dev/null";
            let said = engine.docker(&["exec", from, "sh", "-c", line])?;
            ensure!((said.out.trim() == "c1") == reaches, "{from}: {said:?}");
        }
        ensure!(engine.run(&["exec", "hidden", "ip", "route"])?.lines().count() == 1, "no way out");
        ensure!(engine.run(&["exec", "c1", "cat", "/etc/hosts"])?.contains(&of_c1), "its own name");
        let taken = engine.docker(&["run", "--rm", "--network", "n2", "-p", "8081:80", BUSYBOX, "true"])?;
        ensure!(taken.code == 125 && taken.err.contains("8081"), "{taken:?}");
        Ok(())
    });
}

#[test]
fn privileged_docker_a_fixed_place_comes_back_and_is_told() {
    check(|engine| {
        engine.run(&["network", "create", "--subnet", "172.30.9.0/24", "n1"])?;
        let fixed = [
            "--network",
            "n1",
            "--ip",
            "172.30.9.77",
            "--mac-address",
            "02:42:ac:1e:09:4d",
            "--network-alias",
            "www",
        ];
        let id = serve(engine, "c1", &fixed)?;
        let network = engine.run(&["network", "inspect", "-f", "{{.Id}}", "n1"])?;
        let told = ".NetworkSettings.Networks.n1.";
        for (field, value) in [
            ("IPAddress", "172.30.9.77"),
            ("IPAMConfig.IPv4Address", "172.30.9.77"),
            ("Gateway", "172.30.9.1"),
            ("IPPrefixLen", "24"),
            ("MacAddress", "02:42:ac:1e:09:4d"),
            ("NetworkID", &network),
            ("Aliases", "[www]"),
            ("DNSNames", &format!("[c1 www {}]", &id[..12])),
        ] {
            let found = inspected(engine, "c1", &format!("{told}{field}"))?;
            ensure!(found == value, "{field}: {found}");
        }
        ensure!(inspected(engine, "c1", &format!("{told}EndpointID"))?.len() == 64);
        let link = engine.run(&["exec", "c1", "ip", "address", "show", "eth0"])?;
        ensure!(link.contains("02:42:ac:1e:09:4d") && link.contains("172.30.9.77/24"), "{link}");
        let members = engine.run(&["network", "inspect", "-f", "{{json .Containers}}", "n1"])?;
        ensure!(members.contains(&id) && members.contains("172.30.9.77/24"), "{members}");

        let taken =
            engine.docker(&["run", "--rm", "--network", "n1", "--ip", "172.30.9.77", BUSYBOX, "true"])?;
        ensure!(taken.code == 125, "{taken:?}");
        let used = engine.docker(&["network", "rm", "n1"])?;
        ensure!(used.code == 1 && used.err.contains("has active endpoints"), "{used:?}");

        // The daemon's death takes nothing away, and the place comes back with each start.
        engine.cleat().kill()?;
        engine.cleat().start()?;
        ensure!(address(engine, "c1", "n1")? == "172.30.9.77");
        engine.run(&["restart", "-t", "0", "c1"])?;
        ensure!(address(engine, "c1", "n1")? == "172.30.9.77");
        engine.run(&["stop", "-t", "0", "c1"])?;
        ensure!(address(engine, "c1", "n1")?.is_empty());
        // A network that nobody runs on may go; without it there is no start, with another of its name there is.
        engine.run(&["network", "rm", "n1"])?;
        let start = engine.docker(&["start", "c1"])?;
        ensure!(start.code == 1 && start.err.contains("network n1 not found"), "{start:?}");
        engine.run(&["network", "create", "--subnet", "172.30.9.0/24", "n1"])?;
        engine.run(&["start", "c1"])?;
        ensure!(address(engine, "c1", "n1")? == "172.30.9.77");
        Ok(())
    });
}

#[test]
fn privileged_docker_containers_come_to_networks_and_leave_them() {
    check(|engine| {
        for name in ["a1", "n2"] {
            engine.run(&["network", "create", name])?;
        }
        serve(engine, "c0", &["-p", "8080:80"])?;
        serve(engine, "c2", &["--network", "n2"])?;
        let of_c2 = address(engine, "c2", "n2")?;
        ensure!(ask(engine, "c0", &of_c2)?.is_none());
        engine.run(&["network", "connect", "n2", "c0"])?;
        ensure!(ask(engine, "c0", &of_c2)?.as_deref() == Some("c2"));
        ensure!(engine.run(&["exec", "c0", "cat", "/etc/hosts"])?.contains(&address(engine, "c0", "n2")?));
        let route = || engine.run(&["exec", "c0", "ip", "route", "show", "default"]);
        ensure!(route()?.contains("dev eth0"), "bridge comes before n2");
        let again = engine.docker(&["network", "connect", "n2", "c0"])?;
        ensure!(again.code == 1 && again.err.contains("already exists in network n2"), "{again:?}");

        // What comes first by its name leads out, and the host's port comes by it.
        engine.run(&["network", "connect", "a1", "c0"])?;
        ensure!(route()?.contains("dev eth2"), "{}", route()?);
        ensure!(published(engine)? == "c0");
        ensure!(engine.world().shell("nft list ruleset")?.matches("8080").count() == 1);
        engine.run(&["network", "disconnect", "a1", "c0"])?;
        ensure!(route()?.contains("dev eth0"), "{}", route()?);
        ensure!(published(engine)? == "c0");

        // It has them again after a restart, and after one that the daemon has not seen.
        engine.cleat().kill()?;
        engine.cleat().start()?;
        engine.run(&["restart", "-t", "0", "c0"])?;
        ensure!(ask(engine, "c0", &of_c2)?.as_deref() == Some("c2"));
        engine.run(&["network", "disconnect", "bridge", "c0"])?;
        ensure!(engine.run(&["exec", "c0", "ip", "-o", "link"])?.lines().count() == 2);
        ensure!(published(engine)? == "c0", "by n2 now");
        engine.run(&["network", "disconnect", "n2", "c0"])?;
        ensure!(inspected(engine, "c0", "json .NetworkSettings.Networks")? == "{}");
        let nowhere = engine.docker(&["network", "disconnect", "n2", "c0"])?;
        ensure!(nowhere.code == 1 && nowhere.err.contains("is not connected"), "{nowhere:?}");

        // At rest only what is to be changes; as Compose does before the first start.
        engine.run(&["create", "--name", "c3", "--network", "n2", BUSYBOX, "sleep", "1000"])?;
        engine.run(&["network", "disconnect", "n2", "c3"])?;
        engine.run(&["network", "connect", "--alias", "www", "n2", "c3"])?;
        engine.run(&["network", "connect", "a1", "c3"])?;
        engine.run(&["start", "c3"])?;
        ensure!(engine.run(&["exec", "c3", "ip", "-o", "link"])?.lines().count() == 3);
        for refused in [["network", "connect", "host", "c3"], ["network", "connect", "none", "c3"]] {
            ensure!(engine.docker(&refused)?.code == 1, "{refused:?}");
        }
        // A network that is gone is left by force.
        engine.run(&["stop", "-t", "0", "c0", "c2", "c3"])?;
        // A place is given back behind the answer to the stop: a network waits for it.
        engine.run(&["network", "rm", "n2"])?;
        engine.run(&["network", "disconnect", "-f", "n2", "c3"])?;
        engine.run(&["start", "c3"])?;
        Ok(())
    });
}

#[test]
fn privileged_docker_events_tell_of_networks() {
    check(|engine| {
        engine.run(&["network", "create", "n1"])?;
        engine.run(&["run", "--rm", "--network", "n1", "--name", "c1", BUSYBOX, "true"])?;
        engine.run(&["network", "rm", "n1"])?;
        engine.run(&["network", "prune", "-f"])?;
        let format = "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}";
        let told = {
            let all =
                ["events", "--since", "10m", "--until=-1s", "--filter", "type=network", "--format", format];
            engine.run(&all)?
        };
        let expected = ["create n1 bridge", "connect n1 bridge", "disconnect n1 bridge", "destroy n1 bridge"];
        // The first container of all was on the default network.
        let found: Vec<&str> = told.lines().filter(|line| line.contains("n1")).collect();
        ensure!(found == expected && told.contains("connect bridge bridge"), "{told}");
        ensure!(told.lines().last().is_some_and(|line| line.starts_with("prune")), "{told}");
        Ok(())
    });
}
