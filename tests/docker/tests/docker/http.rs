//! The protocol by curl: versions, statuses, messages.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, ensure};
use cleat_tests_docker::{BUSYBOX, check};

#[test]
fn privileged_versions_and_refusals_are_dockerds() {
    check(|engine| {
        ensure!(engine.curl("GET", "/_ping", "")? == (200, "OK".to_owned()));
        for path in ["/version", "/v1.24/version", "/v1.44/version"] {
            let (status, version) = engine.json("GET", path, "")?;
            ensure!(status == 200 && version["MinAPIVersion"] == "1.24", "{path}: {version}");
        }
        for (method, path, body, status, words) in [
            ("GET", "/v1.99/info", "", 400, "too new"),
            ("GET", "/v1.10/info", "", 400, "too old"),
            ("GET", "/nosuch", "", 404, "page not found"),
            ("GET", "/containers/nosuch/json", "", 404, "No such container: nosuch"),
            ("POST", "/containers/create", "{\"Image\":\"nosuch\"}", 404, "No such image: nosuch:latest"),
            ("POST", "/containers/create", "{", 400, "invalid JSON"),
            ("GET", "/images/json?filters={\"colour\":{\"red\":true}}", "", 400, "invalid filter"),
            ("GET", "/nodes", "", 503, "not a swarm manager"),
            ("POST", "/networks/create", "{\"Name\":\"n\",\"Driver\":\"macvlan\"}", 501, "not implemented"),
            ("PUT", "/volumes/v1", "{}", 501, "not implemented"),
            ("POST", "/images/create?fromImage=127.0.0.1:5000/none&tag=1", "", 404, "manifest unknown"),
        ] {
            let path = path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
            let (found, answer) = engine.json(method, &path, body)?;
            let message = answer["message"].as_str().context("a message")?;
            ensure!(found == status && message.contains(words), "{method} {path}: {found} {message}");
        }
        Ok(())
    });
}

/// A client that writes all before it reads, as those in Go do, is told why, too.
#[test]
fn privileged_a_refused_archive_is_taken_before_its_client_reads_why() {
    const BYTES: usize = 16 << 20;
    check(|engine| {
        let mut client = UnixStream::connect(engine.socket())?;
        client.set_read_timeout(Some(Duration::from_secs(30)))?;
        client.set_write_timeout(Some(Duration::from_secs(30)))?;
        let head =
            "POST /images/create?fromSrc=-&changes=NOSUCH+x HTTP/1.1\r\nHost: docker\r\nConnection: close";
        write!(client, "{head}\r\nContent-Length: {BYTES}\r\n\r\n")?;
        client.write_all(&vec![0; BYTES]).context("write the archive")?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).context("read the answer")?;
        ensure!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("nosuch is not a valid change"),
            "{answer}"
        );
        Ok(())
    });
}

#[test]
fn privileged_a_pull_is_told_step_by_step() {
    check(|engine| {
        engine.run(&["rmi", BUSYBOX])?;
        let (status, lines) =
            engine.curl("POST", "/images/create?fromImage=127.0.0.1:5000/cleat-test/busybox&tag=1", "")?;
        ensure!(status == 200);
        let steps = [
            "Pulling from",
            "Pulling fs layer",
            "Downloading",
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
            "Digest: sha256:",
            "Status: Downloaded newer image",
        ];
        let mut from = 0;
        for step in steps {
            let at =
                lines[from..].find(step).with_context(|| format!("{step} is not in {}", &lines[from..]))?;
            from += at;
        }
        ensure!(lines.contains("\"progressDetail\":{\"current\":"), "{lines}");
        Ok(())
    });
}

#[test]
fn privileged_a_creation_answers_its_id_and_304_what_is_so_already() {
    check(|engine| {
        let body = format!(
            "{{\"Image\":\"{BUSYBOX}\",\"Cmd\":[\"sleep\",\"1000\"],\"Env\":null,\"HostConfig\":null}}"
        );
        let (status, created) = engine.json("POST", "/containers/create?name=c1", &body)?;
        ensure!(status == 201 && created["Warnings"] == serde_json::json!([]), "{created}");
        ensure!(created["Id"].as_str().context("Id")?.len() == 64, "{created}");
        for (path, status) in
            [("start", 204), ("start", 304), ("stop?t=0", 204), ("stop", 304), ("kill", 409)]
        {
            let (found, _) = engine.curl("POST", &format!("/containers/c1/{path}"), "")?;
            ensure!(found == status, "{path}: {found}");
        }
        ensure!(engine.curl("DELETE", "/containers/c1", "")?.0 == 204);
        Ok(())
    });
}
