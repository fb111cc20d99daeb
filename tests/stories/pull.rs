//! `wherry pull` from a real registry: kinds of images and platforms, and clear words when it cannot be.

use crate::support::{Wherry, images, registry};

#[test]
fn a_debian_of_more_than_100_mb_runs() {
    let image = images::debian();
    let wherry = Wherry::new();
    wherry.call(["pull", &image]).expect(0);
    let release = wherry.ok(["run", "--rm", &image, "bash", "-c", ". /etc/os-release; echo $VERSION_CODENAME"]);
    assert_eq!(release, "bookworm");
    let script =
        "dpkg -l | tail -1 | wc -l; ls -d /usr/share/doc 2>&1; stat -c %a /bin/su; find / -xdev -type f | wc -l";
    let seen = wherry.ok(["run", "--rm", &image, "bash", "-c", script]);
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[1].contains("No such file"), "the last layer's whiteout: {seen}");
    assert_eq!(lines[2], "4755");
    assert!(lines[3].parse::<u32>().unwrap() > 2000, "{seen}");
}

#[test]
fn zstd_layers_and_gzip_layers_are_the_same_tree() {
    let (gzip, zstd) = (images::busybox(), images::busybox_zstd());
    let wherry = Wherry::new();
    let tree = |image: &str| wherry.ok(["run", "--rm", image, "sh", "-c", "cd /; md5sum bin/busybox data/* opaque/*"]);
    assert_eq!(tree(&gzip), tree(&zstd));
}

#[test]
fn five_hundred_layers_mount() {
    let image = images::deep();
    let wherry = Wherry::with(&image);
    assert_eq!(wherry.ok(["run", "--rm", &image, "sh", "-c", "cat /last; ls /many | wc -l"]), "500\n500");
}

#[test]
fn an_index_gives_each_platform_its_own() {
    let image = images::index();
    let wherry = Wherry::new();
    wherry.ok(["pull", "-q", &image]);
    assert_eq!(wherry.ok(["run", "--rm", &image, "echo", "native"]), "native");
    assert_eq!(wherry.ok(["run", "--rm", "--platform", "wasi/wasm", &image, "args", "guest"]), "args\nguest");
    assert_eq!(wherry.ok(["run", "--rm", &image, "echo", "still native"]), "still native");
    assert_eq!(wherry.ok(["run", "--rm", "--platform", "wasm", &image, "args", "again"]), "args\nagain");
}

#[test]
fn no_matching_platform_names_those_that_exist() {
    let wherry = Wherry::new();
    wherry.call(["pull", &images::foreign()]).expect(1).complains(&["linux/s390x", "plan9/386"]);
    wherry.call(["pull", "--platform", "linux/riscv64", &images::index()]).expect(1).complains(&["wasi/wasm"]);
    wherry.call(["pull", "--platform", "not a platform", &images::busybox()]).expect(125);
}

#[test]
fn by_digest_is_by_content() {
    let image = images::busybox();
    let wherry = Wherry::new();
    let digest = wherry
        .ok(["pull", &image])
        .lines()
        .find_map(|line| Some(line.strip_prefix("Digest: ")?.to_owned()))
        .expect("pull names the digest");
    let repository = image.rsplit_once(':').unwrap().0;
    let by_digest = format!("{repository}@{digest}");
    assert_eq!(wherry.ok(["run", "--rm", &by_digest, "echo", "same"]), "same");
    let wrong = format!("{repository}@sha256:{}", "0".repeat(64));
    wherry.call(["pull", &wrong]).expect(1).complains(&["sha256:0000"]);
}

#[test]
fn what_is_not_there_is_said() {
    let host = &registry::registry().host;
    let busybox = images::busybox();
    let wherry = Wherry::new();
    let absent = busybox.replace(":latest", ":no-such-tag");
    wherry.call(["pull", &absent]).expect(1).complains(&["no-such-tag", "not found"]);
    wherry.call(["pull", &format!("{host}/no-such-repository")]).expect(1).complains(&["no-such-repository"]);
    wherry.call(["run", "--rm", &absent, "true"]).expect(125).complains(&["no-such-tag"]);
    wherry.call(["pull", "some/Case"]).expect(1).complains(&["some/Case", "lowercase"]);
    assert_eq!(wherry.ok(["images", "-q"]), "");
}

#[test]
fn an_unreachable_registry_is_said() {
    let wherry = Wherry::new();
    let port = registry::free_port();
    wherry.call(["pull", &format!("localhost:{port}/x")]).expect(1).complains(&[&format!("localhost:{port}")]);
    wherry.call(["run", "--rm", &format!("localhost:{port}/x"), "true"]).expect(125);
}

#[test]
fn piped_output_is_plain_lines() {
    let image = images::busybox();
    let wherry = Wherry::new();
    let output = wherry.call(["pull", &image]).expect(0);
    let all = format!("{}{}", output.stdout, output.stderr);
    assert!(!all.contains('\x1b') && !all.contains('\r'), "{output}");
    assert!(all.contains(&image), "{output}");
    let quiet = Wherry::new().call(["pull", "-q", &image]).expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), (format!("{image}\n").as_str(), ""));
}

#[test]
fn all_tags_of_a_repository() {
    let image = images::busybox();
    let registry = &registry::registry().host;
    let wherry = Wherry::new();
    let all = format!("{registry}/all-tags");
    // More than the registry has on a page of its own would need a thousand; three show the order of the words.
    for tag in ["one", "two", "three"] {
        let copied = std::process::Command::new("skopeo")
            .args(["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"])
            .args([format!("docker://{image}"), format!("docker://{all}:{tag}")])
            .status();
        assert!(copied.unwrap().success());
    }
    let said = wherry.ok(["pull", "--all-tags", &all]);
    for words in ["one: Pulling from all-tags", "two: Pulling from all-tags", "three: Pulling from all-tags"] {
        assert_eq!(said.matches(words).count(), 1, "{said}");
    }
    assert_eq!(said.matches("\nDigest: sha256:").count(), 3, "{said}");
    assert!(said.ends_with(&format!("Status: Downloaded newer image for {all}\n{all}")), "{said}");
    assert_eq!(wherry.ok(["images", "-q", &all]).lines().count(), 3);
    let again = wherry.ok(["pull", "-a", &all]);
    assert!(again.ends_with(&format!("Status: Image is up to date for {all}\n{all}")), "{again}");
    assert_eq!(wherry.ok(["pull", "-a", "-q", &all]), all);
    wherry.call(["pull", "-a", &format!("{all}:one")]).expect(1).complains(&["tag can't be used with --all-tags/-a"]);
    wherry.call(["pull", "-a", &format!("{registry}/none-such")]).expect(1).complains(&["none-such"]);
}
