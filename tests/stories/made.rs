//! `wherry export`, `import` and `commit`: images made of containers and of archives, and what other tools say of them.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::handmade::tar;
use crate::support::oci::path;
use crate::support::podman::Podman;
use crate::support::registry::free_port;
use crate::support::standin::{Reply, Server};
use crate::support::{Wherry, images, tool};

/// Changes of every kind.
const CHANGES: &str = "rm /data/keep; echo new > /data/changed; rm -r /opaque; mkdir /opaque; echo only > /opaque/only; \
    mkdir -p /made/deep; echo x > /made/deep/file; ln /made/deep/file /made/link; ln -s /bin/sh /made/symlink; \
    mkfifo /made/pipe; chmod 4755 /made/deep/file; chown 1000:50 /made/deep; touch -d '2001-02-03 04:05:06' /made/deep/file; \
    name=$(printf '%0120d' 7); echo long > /made/$name; echo done";

/// What a program in a container sees of the whole tree.
const TREE: &str = "cd /; find bin data etc home made opaque tmp usr -exec stat -c '%n %F %a %u:%g %s' {} + | \
    grep -v -e ' directory ' -e '^etc/hos' -e '^etc/resolv' | sort; md5sum data/* made/deep/* opaque/*; cat made/*7; readlink made/symlink; stat -c %Y made/deep/file";

fn tree(wherry: &Wherry, image: &str) -> String {
    wherry.ok(["run", "--rm", "--network", "none", image, "sh", "-c", TREE])
}

#[test]
fn what_a_container_changed_is_a_layer() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "--name", "worker", "--network", "none", "-e", "MORE=1", &image, "sh", "-c", CHANGES]);
    let expected = {
        wherry.ok(["run", "--name", "seen", "--network", "none", &image, "sh", "-c", &format!("{CHANGES}; {TREE}")])
    };
    let id = wherry.ok([
        "commit",
        "-a",
        "Ada",
        "-m",
        "why not",
        "-c",
        "ENV A=1 B=two",
        "-c",
        "LABEL x=y",
        "-c",
        "WORKDIR /made",
        "-c",
        "EXPOSE 80",
        "worker",
        "made/by:commit",
    ]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(
        format!("done\n{}", tree(&wherry, "made/by:commit")),
        expected,
        "a run of it sees what the container saw"
    );
    let shown: Value = serde_json::from_str(&wherry.ok(["image", "inspect", "made/by:commit"])).unwrap();
    let config = &shown[0]["Config"];
    let env: Vec<&str> = config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(["MORE=1", "A=1", "B=two", "GREETING=hello"].iter().all(|one| env.contains(one)), "{env:?}");
    assert_eq!(config["Labels"]["x"], "y");
    assert_eq!(config["Labels"]["org.example.story"], "busybox");
    assert_eq!(config["WorkingDir"], "/made");
    let layers = wherry.ok(["image", "inspect", "-f", "{{len .RootFS.Layers}}", &image]).parse::<usize>().unwrap();
    assert_eq!(shown[0]["RootFS"]["Layers"].as_array().unwrap().len(), layers + 1);
    let history = wherry.ok(["history", "--no-trunc", "made/by:commit"]);
    assert!(history.contains("why not"), "{history}");
    // Nothing changed: no layer, and one step more.
    wherry.ok(["create", "--name", "idle", &image]);
    let same = wherry.ok(["commit", "idle"]);
    assert_eq!(wherry.ok(["image", "inspect", "-f", "{{len .RootFS.Layers}}", &same]), layers.to_string());
    let events =
        wherry.ok(["events", "--since", "1h", "--until", "0s", "-f", "event=commit", "--format", "{{.Action}}"]);
    assert_eq!(events, "commit\ncommit");
    wherry.call(["commit", "-c", "RUN x", "worker"]).expect(1).complains(&["RUN is not a valid change command"]);
    wherry.call(["commit", "nobody"]).expect(1).complains(&["No such container: nobody"]);
    wherry.call(["commit", "worker", "Upper"]).expect(1).complains(&["lowercase"]);
}

#[test]
fn a_copied_root_is_compared_with_its_layers() {
    let image = images::busybox();
    let wherry = Wherry::new();
    // A store that found no overlay.
    let layers = wherry.root().join("layers");
    fs::create_dir(&layers).unwrap();
    fs::write(layers.join("store.json"), r#"{"version":1,"marks":"plain"}"#).unwrap();
    wherry.ok(["pull", "-q", &image]);
    wherry.ok(["run", "--name", "worker", "--network", "none", &image, "sh", "-c", &format!("{CHANGES}; rm -r /home")]);
    let id = wherry.ok(["commit", "worker"]);
    let archive = wherry.folder("out").join("a.tar");
    wherry.ok(["save", "-o", path(&archive), &id]);
    let list: Value = serde_json::from_str(&tool("tar", &["-xOf", path(&archive), "manifest.json"])).unwrap();
    let layer = list[0]["Layers"].as_array().unwrap().last().unwrap().as_str().unwrap();
    let listed = tool("sh", &["-c", &format!("tar -xOf {} {layer} | tar -tz", path(&archive))]);
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.retain(|name| !["dev/", "etc/", "proc/", "sys/"].contains(name) && !name.starts_with("made/0"));
    listed.sort_unstable();
    let expected = [
        ".wh.home",
        "data/",
        "data/.wh.keep",
        "data/changed",
        "made/",
        "made/deep/",
        "made/deep/file",
        "made/link",
        "made/pipe",
        "made/symlink",
        "opaque/",
        "opaque/.wh.new",
        "opaque/only",
    ];
    assert_eq!(listed, expected, "what changed, and nothing else");
    assert_eq!(wherry.ok(["run", "--rm", &id, "sh", "-c", "ls /home 2>/dev/null; ls /opaque"]), "only");
}

#[test]
fn other_tools_run_what_was_committed() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "--name", "worker", "--network", "none", &image, "sh", "-c", CHANGES]);
    let id = wherry.ok(["commit", "-c", "CMD [\"cat\", \"/data/changed\"]", "worker", "made/by:commit"]);
    let folder = wherry.folder("peers");
    let archive = folder.join("a.tar");
    wherry.ok(["save", "-o", path(&archive), "made/by:commit"]);
    let layout = format!("oci:{}:x", path(&folder.join("layout")));
    tool("skopeo", &["copy", "-q", &format!("oci-archive:{}", path(&archive)), &layout]);
    let bundle = folder.join("bundle");
    tool("umoci", &["unpack", "--image", &format!("{}:x", path(&folder.join("layout"))), path(&bundle)]);
    let root = bundle.join("rootfs");
    assert_eq!(fs::read_to_string(root.join("data/changed")).unwrap(), "new\n");
    assert!(!root.join("data/keep").exists() && !root.join("opaque/new").exists());
    assert_eq!(fs::read_dir(root.join("opaque")).unwrap().count(), 1);
    let podman = Podman::new();
    podman.ok(&["load", "-q", "-i", path(&archive)]);
    assert_eq!(format!("sha256:{}", podman.ok(&["image", "inspect", "-f", "{{.Id}}", "made/by:commit"])), id);
}

#[test]
fn a_running_container_stands_still_while_it_is_committed() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    // Two files that are equal whenever nothing runs.
    let script = "i=0; while :; do i=$((i+1)); echo $i > /tmp/a; echo $i > /tmp/b; [ $i = 50 ] && echo going; done";
    wherry.ok(["run", "-d", "--name", "busy", "--network", "none", &image, "sh", "-c", script]);
    wherry.until_logged("busy", "going");
    let id = wherry.ok(["commit", "busy", "busy:frozen"]);
    let (a, b) = {
        let seen = wherry.ok(["run", "--rm", &id, "sh", "-c", "cat /tmp/a; cat /tmp/b"]);
        let mut numbers = seen.lines().map(|line| line.parse::<i64>().unwrap_or(-1));
        (numbers.next().unwrap(), numbers.next().unwrap_or(-1))
    };
    assert!(a >= 50 && (a == b || a == b + 1 || b == -1), "{a} {b}");
    wherry.ok(["commit", "--pause=false", "busy", "busy:moving"]);
    // It goes on.
    let before = wherry.ok(["exec", "busy", "cat", "/proc/uptime"]);
    assert!(!before.is_empty());
    assert_eq!(wherry.status("busy").as_deref(), Some("running"));
    wherry.ok(["rm", "-f", "busy"]);
}

#[test]
fn a_containers_files_are_exported_and_imported_again() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "--name", "worker", "--network", "none", &image, "sh", "-c", CHANGES]);
    let folder = wherry.folder("export");
    let archive = folder.join("a.tar");
    wherry.ok(["export", "-o", path(&archive), "worker"]);
    let listed = tool("tar", &["-tvf", path(&archive)]);
    for part in ["data/changed", "opaque/only", "made/symlink -> /bin/sh", "made/pipe", "home/ada/"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    assert!(!listed.contains(".wh.") && !listed.contains("data/keep") && !listed.contains("opaque/new"), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with('h') && line.contains("link to")), "hard links: {listed}");
    // What GNU tar makes of it is what the container has.
    let root = folder.join("root");
    fs::create_dir(&root).unwrap();
    tool("tar", &["-C", path(&root), "-xpf", path(&archive)]);
    assert_eq!(fs::read_to_string(root.join("opaque/only")).unwrap(), "only\n");
    // And an image of it sees the same tree.
    wherry.ok(["commit", "worker", "by:commit"]);
    let id = wherry.ok(["import", "-m", "flat", "-c", "ENV PATH=/bin:/usr/bin", path(&archive), "by:import"]);
    assert_eq!(tree(&wherry, "by:import"), tree(&wherry, "by:commit"));
    assert_eq!(wherry.ok(["image", "inspect", "-f", "{{len .RootFS.Layers}}", &id]), "1");
    assert!(wherry.ok(["history", "by:import"]).contains("flat"));
    // Compressed, through a pipe; and while it runs.
    wherry.ok([
        "run",
        "-d",
        "--name",
        "running",
        "--network",
        "none",
        &image,
        "sh",
        "-c",
        "echo here > /tmp/here; echo up; sleep 100",
    ]);
    wherry.until_logged("running", "up");
    for compressor in ["gzip", "zstd", "cat"] {
        let script =
            format!("\"$0\" export running | {compressor} | \"$0\" import --platform linux/arm64 - piped:{compressor}");
        let mut shell = Command::new("sh");
        wherry.lend_environment(&mut shell);
        let output = shell.args(["-c", &script, env!("CARGO_BIN_EXE_wherry")]).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{compressor}: {}", String::from_utf8_lossy(&output.stderr));
        let name = format!("piped:{compressor}");
        assert_eq!(wherry.ok(["image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", &name]), "linux/arm64");
    }
    let said = wherry.ok(["save", "-o", path(&folder.join("piped.tar")), "piped:cat"]);
    assert_eq!(said, "");
    wherry.ok(["rm", "-f", "running"]);
    let bad = folder.join("bad");
    fs::write(&bad, [b'x'; 4096]).unwrap();
    wherry.call(["import", path(&bad), "not:here"]).expect(1).complains(&["no archive of files"]);
    wherry.call(["import", path(&folder.join("none"))]).expect(1).complains(&["cannot open"]);
    wherry.call(["import", "-c", "RUN x", path(&archive)]).expect(1).complains(&["RUN is not a valid change command"]);
    assert_eq!(wherry.ok(["images", "-q", "not:here"]), "");
    let events = wherry.ok(["events", "--since", "1h", "--until", "0s", "-f", "event=export", "--format", "{{.Type}}"]);
    assert_eq!(events.lines().count(), 4, "{events}");
}

#[test]
fn an_archive_is_imported_from_where_it_is_in_the_web() {
    let archive = tar(&[("hello", b"from far away")]);
    let other = Server::new(|request, _| match (request.path.as_str(), request.authorization()) {
        ("/a.tar", "") => Reply::new(200, tar(&[("hello", b"from elsewhere")])),
        _ => Reply::new(500, "somebody's password came here"),
    });
    let elsewhere = format!("http://{}/a.tar", other.host);
    let server = Server::new(move |request, host| match request.path.as_str() {
        "/a.tar" => Reply::new(200, archive.clone()),
        "/mine.tar" if request.authorization() == "Basic bWU6cGFzcw==" => {
            Reply::new(302, "").with("Location", format!("http://{host}/mine2.tar"))
        }
        "/mine2.tar" if request.authorization() == "Basic bWU6cGFzcw==" => Reply::new(200, archive.clone()),
        "/moved.tar" => Reply::new(302, "").with("Location", &elsewhere),
        "/round.tar" => Reply::new(302, "").with("Location", "/round.tar"),
        "/secret.tar" => Reply::new(302, "").with("Location", "http://169.254.169.254/latest"),
        "/file.tar" => Reply::new(302, "").with("Location", "file:///etc/passwd"),
        "/short.tar" => Reply::new(200, archive.clone()).with("Content-Length", archive.len() + 1),
        "/huge.tar" => Reply::new(200, archive.clone()).with("Content-Length", 1u64 << 50),
        "/text" => Reply::new(200, "x".repeat(4096)),
        _ => Reply::new(404, "nothing of that name\n"),
    });
    let wherry = Wherry::new();
    let address = |file: &str| format!("http://{}/{file}", server.host);
    for (from, shown, says) in [
        (address("a.tar"), address("a.tar"), "from far away"),
        (address("a.tar").replace("http:", "HTTP:"), address("a.tar"), "from far away"),
        (address("mine.tar").replace("//", "//me:pass@"), address("mine.tar"), "from far away"),
        (address("moved.tar").replace("//", "//me:pass@"), address("moved.tar"), "from elsewhere"),
    ] {
        let said = wherry.ok(["import", &from, "from:web"]);
        let id = said.strip_prefix(&format!("Downloading from {shown}\n")).expect(&said).to_owned();
        assert_eq!(wherry.ok(["images", "-q", "--no-trunc", "from:web"]), id);
        assert!(wherry.ok(["history", "--no-trunc", "from:web"]).contains(&format!("Imported from {shown}")));
        let container = wherry.ok(["create", "from:web", "/hello"]);
        let out = wherry.folder("out").join("root.tar");
        wherry.ok(["export", "-o", path(&out), &container]);
        assert_eq!(tool("tar", &["-xOf", path(&out), "hello"]), says);
        wherry.ok(["rm", &container]);
        wherry.ok(["rmi", "from:web"]);
    }
    for (from, complaint) in [
        (address("none"), "with status 404 Not Found: nothing of that name"),
        (address("round.tar"), "there are too many"),
        (address("secret.tar"), "link-local"),
        (address("file.tar"), "which is refused"),
        (address("short.tar"), "cannot read http://"),
        (address("huge.tar"), "the most that a layer may have"),
        (address("text"), "is no archive of files"),
        ("http://".to_owned(), "is no address of a file"),
        (format!("http://127.0.0.1:{}/a.tar", free_port()), "cannot download http://127.0.0.1"),
        (format!("https://{}/a.tar", server.host), "cannot download https://"),
    ] {
        eprintln!("{from}");
        wherry.call(["import", &from, "not:here"]).expect(1).complains(&[complaint]);
    }
    assert_eq!(wherry.ok(["images", "-q"]), "");
    wherry.ok(["system", "check"]);
}

#[test]
fn a_health_check_is_recorded_as_docker_records_it() {
    let wherry = Wherry::new();
    let archive = wherry.folder("in").join("a.tar");
    fs::write(&archive, tar(&[("hello", b"hello")])).unwrap();
    let check = |image: &str| wherry.ok(["image", "inspect", "-f", "{{json .Config.Healthcheck}}", image]);
    let line = "HEALTHCHECK --interval=1m30s --timeout=2s --start-period=10s --start-interval=500ms --retries=5 CMD [\"/hello\"]";
    wherry.ok(["import", "-c", line, path(&archive), "checked"]);
    let expected = r#"{"Test":["CMD","/hello"],"Interval":90000000000,"Timeout":2000000000,"StartPeriod":10000000000,"StartInterval":500000000,"Retries":5}"#;
    assert_eq!(
        serde_json::from_str::<Value>(&check("checked")).unwrap(),
        serde_json::from_str::<Value>(expected).unwrap()
    );
    wherry.ok(["create", "--name", "one", "checked", "/hello"]);
    wherry.ok(["commit", "one", "kept"]);
    assert_eq!(check("kept"), check("checked"));
    wherry.ok(["commit", "-c", "HEALTHCHECK CMD wget -q localhost || exit 1", "one", "shell"]);
    assert_eq!(check("shell"), r#"{"Test":["CMD-SHELL","wget -q localhost || exit 1"]}"#);
    wherry.ok(["commit", "-c", "HEALTHCHECK NONE", "one", "none"]);
    assert_eq!(check("none"), r#"{"Test":["NONE"]}"#);
    let bad = wherry.call(["commit", "-c", "HEALTHCHECK --retries=-1 CMD x", "one"]);
    bad.expect(1).complains(&["--retries cannot be negative (-1)"]);
}
