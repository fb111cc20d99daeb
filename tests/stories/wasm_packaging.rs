//! Every form in which WebAssembly is met in registries and on disks, each with a preview-1 module, a component of 0.2
//! and one of 0.3: pulled from a real registry or read from where it lies, and run. Then what is refused, and why.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::guests::{self, Target};
use crate::support::handmade::{self, Handmade, TAR, push_index, tar};
use crate::support::{Running, Wherry, images, registry};

const WASM: &str = "application/wasm";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const CONTENT_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";
const TARGETS: [Target; 3] = [Target::P1, Target::P2, Target::P3];

/// A guest for a version of WASI, which prints its arguments when it is called with `args`.
fn guest(target: Target) -> Vec<u8> {
    handmade::read(&match target {
        Target::P1 | Target::P2 => guests::c("probe", target),
        Target::P3 => guests::rust("probe3", target),
    })
}

/// Runs every form of the guest; each must print its arguments.
fn all_run(target: Target, forms: impl Fn(&[u8]) -> Vec<String>) {
    let wherry = Wherry::new();
    for image in forms(&guest(target)) {
        wherry.call(["pull", "-q", &image]).expect(0);
        let said = wherry.ok(["run", "--rm", &image, "args", "one", "two words"]);
        let arguments: Vec<&str> = said.lines().skip(1).collect();
        assert_eq!(arguments, ["args", "one", "two words"], "{image} of {target:?}");
    }
}

#[test]
fn images_for_every_spelling_of_the_platform() {
    let spellings =
        ["wasi/wasm", "wasi/wasm32", "wasi/wasm64", "wasip1/wasm", "wasip2/wasm", "wasm/wasi", "linux/wasm"];
    for target in TARGETS {
        all_run(target, |program| {
            let image = |spelling: &str| {
                let layers = vec![(TAR, tar(&[("x.wasm", program)]))];
                let tag = format!("{}-{target:?}", spelling.replace('/', "-"));
                Handmade::image(spelling, &["/x.wasm"], layers).push("spelling", &tag)
            };
            spellings.map(image).to_vec()
        });
    }
    // Each is asked for by each.
    let wherry = Wherry::new();
    let image = format!("{}/spelling:wasip1-wasm-P1", registry::registry().host);
    for spelling in spellings.into_iter().chain(["wasm", "wasi", "wasip1"]) {
        let said = wherry.ok(["run", "--rm", "--pull", "always", "-q", "--platform", spelling, &image, "args"]);
        assert!(said.ends_with("args"), "{spelling}: {said}");
    }
    wherry.call(["pull", "--platform", "js/wasm", &image]).expect(125).complains(&["js/wasm", "JavaScript"]);
    let layers = vec![(TAR, tar(&[("x.wasm", b"\0asm\x01\0\0\0")]))];
    let browser = Handmade::image("js/wasm", &["/x.wasm"], layers).push("spelling", "js");
    wherry.call(["pull", &browser]).expect(1).complains(&["spelling:js cannot be run here", "JavaScript"]);
}

#[test]
fn images_for_linux_whose_program_is_wasm() {
    let host = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    for target in TARGETS {
        all_run(target, |program| {
            let busybox = handmade::read("/bin/busybox".as_ref());
            let layers =
                || vec![(TAR, tar(&[("bin/busybox", &busybox), ("bin/tool", program), ("app/x.wasm", program)]))];
            let image = |tag: &str, entrypoint: &[&str], annotations: Value| {
                let image = Handmade { annotations, ..Handmade::image(host, entrypoint, layers()) };
                image.push("rootfs", &format!("{tag}-{target:?}"))
            };
            vec![
                image("path", &["/app/x.wasm"], json!({})),
                image("search", &["tool"], json!({})),
                image("compat", &["/app/x.wasm"], json!({"module.wasm.image/variant": "compat"})),
                image("smart", &["/bin/tool"], json!({"module.wasm.image/variant": "compat-smart"})),
                image("handler", &["/app/x.wasm"], json!({"run.oci.handler": "wasm"})),
            ]
        });
    }
}

#[test]
fn layers_that_are_the_program() {
    for target in TARGETS {
        all_run(target, |program| {
            let layer = |media_type: &'static str| vec![(media_type, program.to_vec())];
            let runwasi = |tag: &str, media_type: &'static str, entrypoint: &[&str]| {
                let image = Handmade::image("wasip1/wasm", entrypoint, layer(media_type));
                image.push("layers", &format!("{tag}-{target:?}"))
            };
            let artifact = |tag: &str, config: (&'static str, Value), media_type: &'static str| {
                let image = Handmade { config, layers: layer(media_type), annotations: json!({}) };
                image.push("layers", &format!("{tag}-{target:?}"))
            };
            let os = if target == Target::P1 { "wasip1" } else { "wasip2" };
            let says = json!({"os": os, "architecture": "wasm", "layerDigests": [handmade::digest(program)]});
            vec![
                runwasi("component", "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", &[]),
                runwasi("content", CONTENT_LAYER, &["/hello.wasm"]),
                runwasi("plain", WASM, &["x.wasm#_start"]),
                artifact("cncf", (WASM_CONFIG, says.clone()), WASM),
                artifact("cncf-content", (WASM_CONFIG, says), CONTENT_LAYER),
                artifact("wasm-to-oci", ("application/vnd.wasm.config.v1+json", json!({})), CONTENT_LAYER),
            ]
        });
    }
}

#[test]
fn files_and_standard_input() {
    let wherry = Wherry::new();
    for target in TARGETS {
        let file = wherry.folder("files").join(format!("{target:?}.wasm"));
        fs::write(&file, guest(target)).unwrap();
        let said = wherry.ok(["run", "--rm", file.to_str().unwrap(), "args", "one"]);
        assert_eq!(said.lines().skip(1).collect::<Vec<_>>(), ["args", "one"], "{target:?}");
        let mut running = Running::start(wherry.command(["run", "--rm", "-", "args", "two"]).stdin(Stdio::piped()));
        running.child.stdin.take().unwrap().write_all(&guest(target)).unwrap();
        let said = running.finish().expect(0).stdout;
        assert_eq!(said.lines().skip(1).collect::<Vec<_>>(), ["args", "two"], "{target:?}");
    }
}

#[test]
fn an_index_gives_each_its_own() {
    let linux = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let busybox = handmade::read("/bin/busybox".as_ref());
    let native = Handmade::image(linux, &["/bin/busybox", "echo"], vec![(TAR, tar(&[("bin/busybox", &busybox)]))]);
    let of = |platform: &str, target| {
        Handmade::image(platform, &[], vec![(WASM, guest(target))]).push_entry("both", platform)
    };
    let entries = [native.push_entry("both", linux), of("wasip1/wasm", Target::P1), of("wasip2/wasm", Target::P2)];
    let image = push_index("both", "latest", &entries);
    let wherry = Wherry::new();
    let run =
        |options: &[&str]| wherry.ok([&["run", "--rm", "-q", "--pull", "always"], options, &[&image, "args"]].concat());
    assert_eq!(run(&[]), "args", "the machine's own comes first");
    for platform in ["wasi/wasm", "wasip1/wasm", "wasip2/wasm", "wasm"] {
        assert!(run(&["--platform", platform]).ends_with("\nargs"), "{platform}");
    }
    let other = Wherry::new();
    other.ok(["pull", "-q", "--platform", "wasip2/wasm", &image]);
    assert!(other.ok(["images", "--format", "json"]).contains("wasip2/wasm"));
}

#[test]
fn what_cannot_run_here_is_refused_with_the_reason() {
    let wherry = Wherry::new();
    let module = || guest(Target::P1);
    let made = |tag: &str, config: &'static str, says: Value, layers: Vec<(&'static str, Vec<u8>)>| {
        Handmade { config: (config, says), layers, annotations: json!({}) }.push("refused", tag)
    };
    let spin = made(
        "spin",
        "application/vnd.fermyon.spin.application.v1+config",
        json!({"spinLockVersion": 1}),
        vec![(CONTENT_LAYER, module()), ("application/vnd.wasm.content.layer.v1+data", b"data".to_vec())],
    );
    wherry.call(["pull", &spin]).expect(1).complains(&["refused:spin cannot be run here", "Spin application"]);
    let envoy = made("envoy", "application/vnd.module.wasm.config.v1+json", json!({}), vec![(CONTENT_LAYER, module())]);
    wherry.call(["pull", &envoy]).expect(1).complains(&["plugin for Envoy"]);
    let compat =
        Handmade::image("linux/amd64", &[], vec![(TAR, tar(&[("plugin.wasm", &module())]))]).push("refused", "compat");
    Wherry::new()
        .call(["run", "--rm", "-q", "--platform", "linux/amd64", &compat])
        .expect(125)
        .complains(&["plugin for Envoy"]);
    let two = made("two", WASM_CONFIG, json!({"os": "wasip1"}), vec![(WASM, module()), (WASM, guest(Target::P2))]);
    wherry.call(["pull", &two]).expect(1).complains(&["exactly one WebAssembly layer", "2 layers", "compose"]);
    let imports = json!(["wasi:io/poll@0.2.0", "acme:engine/warp@1.0.0", "wasi:nn/graph@0.2.0-rc-2024-10-28"]);
    let needy = made(
        "needy",
        WASM_CONFIG,
        json!({"os": "wasip2", "component": {"exports": [], "imports": imports}}),
        vec![(WASM, guest(Target::P2))],
    );
    let names = "imports what is not offered: acme:engine/warp@1.0.0, wasi:nn/graph@0.2.0-rc-2024-10-28";
    wherry.call(["pull", &needy]).expect(1).complains(&[names]);
    let function =
        Handmade::image("wasip1/wasm", &["x.wasm#other"], vec![(WASM, module())]).push("refused", "function");
    wherry.call(["pull", &function]).expect(1).complains(&["x.wasm#other", "function cannot be chosen"]);
    assert_eq!(wherry.ok(["images", "-q"]), "", "nothing of it is an image here");
}

#[test]
fn compiled_code_of_others_is_never_loaded() {
    let wherry = Wherry::new();
    // What wasmtime compiles begins so; none of it gets as far as being read.
    let mut code = b"\x7fELF\x02\x01\x01\xc8".to_vec();
    code.resize(8192, 0x90);
    let layer = Handmade::image("wasip1/wasm", &[], vec![(WASM, code.clone())]).push("code", "layer");
    wherry.call(["pull", &layer]).expect(1).complains(&["native machine code", "is refused"]);
    let config = (WASM_CONFIG, json!({"os": "wasip1"}));
    let artifact =
        Handmade { config, layers: vec![(WASM, code.clone())], annotations: json!({}) }.push("code", "artifact");
    wherry.call(["pull", &artifact]).expect(1).complains(&["native machine code"]);
    for (platform, tag) in [("wasi/wasm", "wasi"), ("linux/amd64", "linux")] {
        let image = Handmade::image(platform, &["/app.wasm"], vec![(TAR, tar(&[("app.wasm", &code)]))]);
        let image = image.push("code", tag);
        wherry
            .call(["run", "--rm", "-q", "--platform", platform, &image])
            .expect(125)
            .complains(&["native machine code"]);
    }
    let file = wherry.folder("code").join("app.cwasm");
    fs::write(&file, &code).unwrap();
    wherry.call(["run", "--rm", file.to_str().unwrap()]).expect(125).complains(&["native machine code"]);
    // An entry that another user has put into the cache, or may have, is not one.
    let cache = wherry.root().join("cache/wasm");
    assert!(!cache.exists() || fs::read_dir(&cache).unwrap().next().is_none(), "nothing was kept of it");
    let guest = wherry.folder("code").join("guest.wasm");
    fs::write(&guest, self::guest(Target::P1)).unwrap();
    let guest = guest.to_str().unwrap();
    wherry.ok(["run", "--rm", guest, "args"]);
    for entry in fs::read_dir(&cache).unwrap() {
        let path = entry.unwrap().path();
        fs::write(&path, &code).unwrap();
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    }
    let refused = wherry.call(["run", "--rm", guest, "args"]);
    assert!(refused.status == 125 || refused.stdout.ends_with("args\n"), "{refused}");
}

#[test]
fn an_image_for_wasm_starts_nothing_else() {
    let wherry = Wherry::new();
    let busybox = handmade::read("/bin/busybox".as_ref());
    let files = [("bin/busybox", &busybox[..]), ("run.sh", b"#!/bin/busybox sh\necho escaped\n")];
    for (tag, entrypoint, words) in [
        ("elf", &["/bin/busybox", "echo", "escaped"][..], "native machine code"),
        ("script", &["/run.sh"], "it is a script"),
        ("absent", &["/nothing.wasm"], "nothing.wasm"),
    ] {
        for platform in ["wasi/wasm", "linux/wasm", "wasip2/wasm"] {
            let image = Handmade::image(platform, entrypoint, vec![(TAR, tar(&files))]);
            let image = image.push("only-wasm", &format!("{tag}-{}", platform.replace('/', "-")));
            wherry.call(["run", "--rm", "-q", &image]).expect(125).complains(&[words]).says("");
        }
    }
}

#[test]
fn a_program_is_pushed_as_an_artifact() {
    let wherry = Wherry::new();
    let host = &registry::registry().host;
    // What a run before this one pushed would not be sent.
    let repository = &format!("pushed-{}", std::process::id());
    for target in TARGETS {
        let program = guest(target);
        let file = wherry.folder("push").join("app.wasm");
        fs::write(&file, &program).unwrap();
        let file = file.to_str().unwrap();
        let tag = format!("{target:?}").to_lowercase();
        let name = format!("{host}/{repository}:{tag}");
        let push = ["push", "--author", "the author", "--annotation", "org.example/key=value", file, &name];
        let mut command = wherry.command(push);
        let said = Running::start(command.env("SOURCE_DATE_EPOCH", "1700000000")).finish().expect(0).stdout;
        assert!(said.contains("Pushed") && said.contains(&format!("{tag}: digest: sha256:")), "{said}");

        let manifest: Value = serde_json::from_slice(&handmade::get(repository, "manifests", &tag)).unwrap();
        assert_eq!(manifest["config"]["mediaType"], WASM_CONFIG);
        assert_eq!(manifest["layers"][0]["mediaType"], WASM);
        assert_eq!(manifest["layers"][0]["digest"], handmade::digest(&program).as_str());
        assert_eq!(manifest["layers"][0]["annotations"]["org.opencontainers.image.title"], "app.wasm");
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        assert_eq!(manifest["annotations"]["org.example/key"], "value");
        let config = handmade::get(repository, "blobs", manifest["config"]["digest"].as_str().unwrap());
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["architecture"], "wasm");
        assert_eq!(config["os"], if target == Target::P1 { "wasip1" } else { "wasip2" });
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        assert_eq!(config["author"], "the author");
        assert_eq!(config["layerDigests"], json!([handmade::digest(&program)]));
        let exports = config["component"]["exports"].to_string();
        match target {
            Target::P1 => assert!(config.get("component").is_none()),
            Target::P2 => assert!(exports.contains("wasi:cli/run@0.2."), "{exports}"),
            Target::P3 => assert!(exports.contains("wasi:cli/run@0.3."), "{exports}"),
        }
        skopeo_reads(&name, &manifest);

        let again = wherry.call(["push", file, &name]).expect(0).stdout;
        assert!(again.contains("Layer already exists"), "{again}");
        let other = Wherry::new();
        other.ok(["pull", "-q", &name]);
        let ran = other.ok(["run", "--rm", &name, "args", "pulled"]);
        assert!(ran.ends_with("args\npulled"), "{ran}");
        let inspected = other.inspect(&name);
        assert_eq!(inspected["Architecture"], "wasm");
        assert_eq!(inspected["Os"], config["os"]);
        assert_eq!(inspected["Wasm"]["component"], config.get("component").cloned().unwrap_or_default());
        assert!(other.ok(["images"]).contains(&tag));
    }
    wherry.call(["push", "./app.wasm"]).expect(1);
    let broken = wherry.folder("push").join("broken.wasm");
    fs::write(&broken, b"\0asm\x01\0\0\0\x01\xff").unwrap();
    let name = format!("{host}/{repository}:broken");
    wherry.call(["push", broken.to_str().unwrap(), &name]).expect(1).complains(&["broken.wasm", "invalid WebAssembly"]);
}

/// Another client reads the artifact and copies it.
fn skopeo_reads(name: &str, manifest: &Value) {
    let skopeo = |args: &[&str]| {
        let output = std::process::Command::new("skopeo").args(args).output().expect("skopeo starts");
        assert!(output.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let remote = format!("docker://{name}");
    let raw: Value = serde_json::from_slice(&skopeo(&["inspect", "--tls-verify=false", "--raw", &remote])).unwrap();
    assert_eq!(raw, *manifest);
    let copy = tempfile::tempdir().unwrap();
    let copied = format!("oci:{}:copy", copy.path().display());
    skopeo(&["copy", "-q", "--src-tls-verify=false", &remote, &copied]);
}

#[test]
fn an_image_that_is_here_is_pushed_as_it_is() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let copy = format!("{}/copied:1", registry::registry().host);
    let said = wherry.call(["push", &image, &copy]).expect(0).stdout;
    let digest = |image: &str| {
        let (repository, tag) = image.split_once('/').unwrap().1.split_once(':').unwrap();
        handmade::digest(&handmade::get(repository, "manifests", tag))
    };
    assert_eq!(digest(&image), digest(&copy));
    assert!(said.contains(&digest(&copy)), "{said}");
    assert_eq!(Wherry::new().ok(["run", "--rm", "-q", &copy, "echo", "copied"]), "copied");
    wherry
        .call(["push", "nothing/here"])
        .expect(1)
        .complains(&["An image does not exist locally with the tag: nothing/here"]);
    wherry.call(["push", &image, &format!("{copy}@sha256:{}", "0".repeat(64))]).expect(1).complains(&["digest"]);
}

/// The pieces of compiled code that are kept: each once, whatever other names it has.
fn kept(wherry: &Wherry) -> usize {
    let entries = fs::read_dir(wherry.root().join("cache/wasm")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("seen-")).count()
}

#[test]
fn a_pull_compiles_and_a_removal_takes_the_code_with_the_image() {
    let of = |target: Target, repository: &str| {
        Handmade::image("wasip1/wasm", &[], vec![(WASM, guest(target))]).push(repository, "latest")
    };
    let (one, other) = (of(Target::P1, "code-one"), of(Target::P2, "code-other"));
    let config = (WASM_CONFIG, json!({"os": "wasip1"}));
    let same = Handmade { config, layers: vec![(WASM, guest(Target::P1))], annotations: json!({}) }
        .push("code-same", "latest");
    let wherry = Wherry::new();
    let said = wherry.ok(["pull", &one]);
    assert!(said.contains(": Compiling\n") && said.contains(": Compiled\n"), "{said}");
    assert_eq!(kept(&wherry), 1);
    for image in [&other, &same] {
        assert!(!wherry.ok(["pull", "-q", image]).contains("Compil"));
    }
    assert_eq!(kept(&wherry), 2, "the same program is compiled once");
    for image in [&one, &other, &same] {
        assert!(wherry.ok(["run", "--rm", image, "args"]).ends_with("args"));
    }
    assert_eq!(kept(&wherry), 2);
    wherry.ok(["rmi", &one]);
    assert_eq!(kept(&wherry), 2, "another image has the same program");
    // A container is made of its image as long as it exists.
    wherry.ok(["create", "--name", "user", &other, "args"]);
    wherry.ok(["rmi", "--force", &other]);
    assert_eq!(kept(&wherry), 2);
    wherry.ok(["rmi", &same]);
    assert_eq!(kept(&wherry), 1);
    wherry.ok(["rm", "user"]);
    wherry.call(["rmi", "nothing"]).expect(1);
    let left: Vec<_> = fs::read_dir(wherry.root().join("cache/wasm")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_cannot_be_compiled_is_told_at_the_pull() {
    let wherry = Wherry::new();
    let library = wat::parse_str(r#"(module (func (export "add")))"#).unwrap();
    let image = Handmade::image("wasip1/wasm", &[], vec![(WASM, library)]).push("refused", "library");
    wherry.call(["pull", "-q", &image]).expect(1).complains(&["refused:library", "it is a library"]);
}
