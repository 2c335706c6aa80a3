//! Sources of a Kubefile that lie elsewhere: files behind an address, and repositories of git.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod desk;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use desk::*;
use gantry_model::Digest;

/// A server of files. Besides them it has
///
/// | path | what it does |
/// |---|---|
/// | `/elsewhere/PATH` | leads to `/PATH` |
/// | `/busy/PATH` | answers with 503 the first time |
/// | `/half/PATH` | breaks off |
struct Server {
    address: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn of(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(AtomicUsize::new(0));
        let (folder, counter) = (folder.to_owned(), requests.clone());
        // It ends with the test.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                answer(stream.unwrap(), &folder, number);
            }
        });
        Self { address, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

fn answer(mut stream: TcpStream, folder: &Path, number: usize) {
    let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
    let first = request.next().unwrap().unwrap();
    while request.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    let path = first.split(' ').nth(1).unwrap().split('?').next().unwrap();
    let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n");
    let mut send = |head: String, body: &[u8]| {
        // Who hangs up early has seen enough.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body));
    };
    if let Some(target) = path.strip_prefix("/elsewhere/") {
        return send(
            head(
                "302 Found",
                &format!("Location: /{target}\r\nContent-Length: 0\r\n"),
            ),
            b"",
        );
    }
    if path.starts_with("/busy/") && number == 0 {
        return send(head("503 Service Unavailable", "Content-Length: 0\r\n"), b"");
    }
    let (path, half) = match path.strip_prefix("/half/") {
        Some(path) => (path, true),
        None => (
            path.strip_prefix("/busy").unwrap_or(path).trim_start_matches('/'),
            false,
        ),
    };
    match fs::read(folder.join(path)) {
        Ok(bytes) => {
            let length = format!("Content-Length: {}\r\n", bytes.len());
            let sent = if half { bytes.len() / 2 } else { bytes.len() };
            send(head("200 OK", &length), &bytes[..sent]);
        }
        Err(_) => send(head("404 Not Found", "Content-Length: 0\r\n"), b""),
    }
}

/// A desk with a folder that is served, and a Kubefile of these lines behind `FROM scratch`.
fn desk() -> (Desk, PathBuf) {
    let desk = Desk::new();
    let served = desk.path("served");
    fs::create_dir(&served).unwrap();
    fs::write(served.join("tool"), "a program").unwrap();
    fs::create_dir(desk.path("context")).unwrap();
    (desk, served)
}

fn kubefile(desk: &Desk, lines: &str) {
    desk.file("context/Kubefile", format!("FROM scratch\n{lines}\n"));
}

const BUILD: [&str; 6] = ["build", "-t", "app:v1", "--network", "host", "context"];

#[test]
fn a_file_behind_an_address_becomes_a_file_of_the_image() {
    let (desk, served) = desk();
    let server = Server::of(&served);
    desk.file("context/local", "local");
    kubefile(
        &desk,
        &format!(
            "COPY {} local {} bin/\nADD --checksum={} {} tool2",
            server.url("elsewhere/tool"),
            server.url("busy/tool?version=1"),
            Digest::of(b"a program"),
            server.url("tool")
        ),
    );
    desk.ok(&BUILD);
    assert_eq!(desk.ok(&["cat", "app:v1", "bin/tool"]), "a program");
    assert_eq!(desk.ok(&["cat", "app:v1", "bin/local"]), "local");
    assert_eq!(desk.ok(&["cat", "app:v1", "tool2"]), "a program");
    assert!(desk.ok(&["ls", "app:v1", "tool2"]).contains("-rw-r--r--"));

    // The same bytes are the same layers, wherever they come from.
    let first = desk.ok(&["inspect", "-f", "{{.Digest}}", "app:v1"]);
    let again = desk.run(&BUILD);
    assert!(String::from_utf8(again.stderr).unwrap().contains("cached"));
    assert_eq!(desk.ok(&["inspect", "-f", "{{.Digest}}", "app:v1"]), first);
    // Nothing of it is left in the store.
    assert_eq!(fs::read_dir(desk.path("root/store/tmp")).unwrap().count(), 0);
}

#[test]
fn an_application_may_lie_behind_an_address() {
    let (desk, served) = desk();
    fs::write(served.join("web.yaml"), "kind: Namespace\n").unwrap();
    let server = Server::of(&served);
    desk.file("context/db.yaml", "kind: Namespace\n");
    kubefile(
        &desk,
        &format!("APP web {} local://db.yaml\nLAUNCH web", server.url("web.yaml")),
    );
    let error = desk.fails(2, &["build", "-t", "app:v1", "context"]);
    assert!(
        error.contains("Kubefile:2:9") && error.contains("--network host"),
        "{error}"
    );
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
    desk.ok(&BUILD);
    assert_eq!(
        desk.ok(&["cat", "app:v1", "application/apps/web/web.yaml"]),
        "kind: Namespace\n"
    );
    let image = desk.json(&["inspect", "-f", "json", "app:v1"]);
    assert_eq!(image["Applications"][0]["type"], "kube");
    let commands = image["Commands"][0].as_str().unwrap();
    assert!(
        commands.contains("kubectl apply -f application/apps/web/web.yaml") && commands.contains("db.yaml"),
        "{commands}"
    );

    // Of one that cannot be had, nothing is built.
    kubefile(
        &desk,
        &format!("APP web {}\nLAUNCH web", server.url("missing.yaml")),
    );
    desk.ok(&["rmi", "app:v1"]);
    let error = String::from_utf8(desk.run(&BUILD).stderr).unwrap();
    assert!(
        error.contains("missing.yaml cannot be had; nothing was built"),
        "{error}"
    );
    desk.fails(2, &["inspect", "app:v1"]);
}

#[test]
fn a_build_asks_nobody_unless_it_may() {
    let (desk, served) = desk();
    let server = Server::of(&served);
    kubefile(&desk, &format!("COPY {} .\nCOPY missing .", server.url("tool")));
    let error = desk.fails(2, &["build", "-t", "app:v1", "context"]);
    assert!(
        error.contains("--> context/Kubefile:2:6") && error.contains("asks nobody"),
        "{error}"
    );
    assert!(error.contains("--network host"), "{error}");
    assert!(
        error.contains("\"missing\" is not in the build context"),
        "all at once: {error}"
    );
    // Nor before every other mistake is gone.
    desk.fails(2, &BUILD);
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn what_is_not_what_it_should_be_is_refused() {
    let (desk, served) = desk();
    let server = Server::of(&served);
    for (line, code, said) in [
        (
            format!(
                "ADD --checksum={} {} .",
                Digest::of(b"another"),
                server.url("tool")
            ),
            6,
            "is not what --checksum says",
        ),
        (format!("COPY {} .", server.url("nothing")), 2, "404 Not Found"),
        (format!("COPY {} .", server.url("half/tool")), 7, "cannot fetch"),
        ("COPY http://127.0.0.1:1/tool .".to_owned(), 7, "refused"),
        (
            format!("ADD --checksum={} tool .", Digest::of(b"")),
            2,
            "--checksum is for one file",
        ),
    ] {
        desk.file("context/tool", "local");
        kubefile(&desk, &line);
        let error = desk.fails(code, &BUILD);
        assert!(
            error.contains(said) && error.contains("context/Kubefile:2:"),
            "{line}: {error}"
        );
        desk.fails(2, &["inspect", "app:v1"]);
    }
    assert_eq!(fs::read_dir(desk.path("root/store/tmp")).unwrap().count(), 0);
}

/// A repository with a tag, a branch and a link out of it, served as files.
fn repository(desk: &Desk, served: &Path) -> String {
    let work = desk.path("work");
    fs::create_dir_all(work.join("deploy")).unwrap();
    fs::write(work.join("deploy/app.yaml"), "first").unwrap();
    fs::write(work.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(work.join("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("/etc", work.join("out")).unwrap();
    let git = |folder: &Path, line: &str| {
        let words = line.split(' ');
        let done = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args([
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "-c",
                "init.defaultBranch=master",
            ])
            .args(words)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&work, "init -q");
    git(&work, "add -A");
    git(&work, "commit -qm first");
    git(&work, "tag v1");
    let first = git(&work, "rev-parse HEAD");
    fs::write(work.join("deploy/app.yaml"), "second").unwrap();
    git(&work, "commit -qam second");
    git(
        &work,
        &format!("clone -q --bare . {}", served.join("app.git").display()),
    );
    git(&served.join("app.git"), "update-server-info");
    first
}

#[test]
fn a_commit_of_a_repository_becomes_files_of_the_image() {
    let (desk, served) = desk();
    // No server gives a commit by the first digits of its id; and the branch is called as new ones are.
    let short = repository(&desk, &served)[..9].to_owned();
    let server = Server::of(&served);
    let url = server.url("app.git");
    kubefile(
        &desk,
        &format!(
            "COPY {url} newest/\nCOPY {url}#v1 tag/\nCOPY {url}#{short}:deploy part/\nAPP web {url}#master:deploy"
        ),
    );
    desk.ok(&BUILD);
    for (path, content) in [
        ("newest/deploy/app.yaml", "second"),
        ("tag/deploy/app.yaml", "first"),
        ("part/app.yaml", "first"),
        ("application/apps/web/app.yaml", "second"),
    ] {
        assert_eq!(desk.ok(&["cat", "app:v1", path]), content, "{path}");
    }
    let listed = desk.ok(&["ls", "app:v1", "newest/run.sh"]);
    assert!(listed.contains("rwxr-xr-x"), "{listed}");
    assert!(!desk.ok(&["ls", "-R", "app:v1", "newest"]).contains(".git"));

    for (source, code, said) in [
        (format!("{url}#v2"), 2, "has no v2"),
        (format!("{url}#v1:nothing"), 2, "no folder \"nothing\""),
        (format!("{url}#v1:out"), 2, "no folder \"out\""),
        (server.url("other.git"), 7, "cannot fetch"),
        ("ssh://127.0.0.1:1/a".to_owned(), 7, "cannot fetch"),
    ] {
        kubefile(&desk, &format!("COPY {source} ."));
        let error = desk.fails(code, &BUILD);
        assert!(
            error.contains(said) && error.contains("context/Kubefile:2:6"),
            "{source}: {error}"
        );
    }
}
