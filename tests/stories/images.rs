//! `wherry images` and `wherry rmi`: what is here, and what goes when it is asked to.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::handmade::{self, Handmade};
use crate::support::{Wherry, images};

/// The names in a directory of the data root, lock files and the like left out.
fn names(root: &Path, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.into_string().unwrap()).filter(|name| name.len() == 64).collect()
}

#[test]
fn images_are_listed_as_docker_lists_them() {
    let image = images::busybox();
    let (name, tag) = image.rsplit_once(':').unwrap();
    let wherry = Wherry::new();
    assert_eq!(wherry.ok(["images", "-q"]), "");
    assert!(wherry.ok(["images"]).starts_with("REPOSITORY   TAG       IMAGE ID   CREATED   SIZE"));
    wherry.ok(["pull", "-q", &image]);
    let table = wherry.ok(["images"]);
    let id = wherry.ok(["images", "-q"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split("   ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!((row[0], row[1], row[2]), (name, tag, id.as_str()), "{table}");
    assert!(row[3].ends_with(" ago") && row[4].ends_with('B'), "{table}");
    assert_eq!(wherry.ok(["images", "-q", "--no-trunc"])[..19], format!("sha256:{id}"));
    let line: Value = serde_json::from_str(&wherry.ok(["images", "--format", "json"])).unwrap();
    assert_eq!((&line["Repository"], &line["Tag"], &line["ID"]), (&name.into(), &tag.into(), &id.as_str().into()));
    let digest = line["Digest"].as_str().unwrap();
    assert!(wherry.ok(["images", "--digests"]).contains(digest));
    assert_eq!(wherry.ok(["images", "-q", name]), id);
    assert_eq!(wherry.ok(["images", "-q", &format!("{name}:other")]), "");
}

#[test]
fn what_is_removed_is_gone_to_the_last_byte() {
    let (image, other) = (images::busybox(), images::busybox_zstd());
    let wherry = Wherry::with(&image);
    let one = names(wherry.root(), "content/blobs/sha256");
    wherry.ok(["pull", "-q", &other]);
    let layers = names(wherry.root(), "layers").len();
    let said = wherry.ok(["rmi", &other]);
    assert!(said.starts_with(&format!("Untagged: {other}\nDeleted: sha256:")), "{said}");
    let mut left = names(wherry.root(), "content/blobs/sha256");
    left.sort();
    let mut before = one;
    before.sort();
    assert_eq!(left, before, "the other image's blobs, and nothing else");
    assert!(names(wherry.root(), "layers").len() <= layers);
    assert_eq!(wherry.ok(["run", "--rm", &image, "echo", "whole"]), "whole");
    wherry.ok(["rmi", &wherry.ok(["images", "-q"])]);
    assert_eq!(names(wherry.root(), "content/blobs/sha256"), Vec::<String>::new());
    assert_eq!(names(wherry.root(), "layers"), Vec::<String>::new());
    wherry.call(["rmi", &image]).expect(1).complains(&["No such image", &image]);
}

#[test]
fn an_image_in_use_is_not_removed_from_under_its_container() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let id = wherry.ok(["create", "--name", "user", &image, "echo", "still here"]);
    wherry.call(["rmi", &image]).expect(1).complains(&["conflict", "must force", &id[..12]]).says("");
    wherry.ok(["rmi", "-f", &image]);
    assert_eq!(wherry.ok(["images", "-q"]), "");
    wherry.ok(["start", "user"]);
    assert_eq!(wherry.ok(["wait", "user"]), "0");
    assert_eq!(wherry.ok(["logs", "user"]), "still here");
    wherry.ok(["rm", "user"]);
    let running = wherry.ok(["run", "-d", &image, "sleep", "100"]);
    wherry.call(["rmi", "-f", &image]).expect(1).complains(&["cannot be forced", &running[..12]]);
}

#[test]
fn an_image_gets_further_names_and_what_had_them_dangles() {
    let (image, other) = (images::busybox(), images::busybox_zstd());
    let wherry = Wherry::with(&image);
    wherry.ok(["pull", "-q", &other]);
    assert_eq!(wherry.ok(["tag", &image, "mine:1"]), "");
    let id = wherry.ok(["images", "-q", "mine:1"]);
    wherry.ok(["tag", &id, "localhost:5000/team/app"]);
    assert_eq!(wherry.ok(["images", "-q", "localhost:5000/team/app:latest"]), id);
    assert_eq!(wherry.ok(["run", "--rm", "mine:1", "echo", "tagged"]), "tagged");
    // The name moves on: no image vanishes for it.
    wherry.ok(["tag", &other, "mine:1"]);
    assert_eq!(wherry.ok(["images", "-q", "mine:1"]), wherry.ok(["images", "-q", &other]));
    for (bad, says) in [("Upper", "lowercase"), ("x@sha256:0", "digest"), ("sha256:abc", "ambiguous tag")] {
        wherry.call(["tag", &image, bad]).expect(1).complains(&[says]);
    }
    wherry.call(["tag", "nobody/knows", "x"]).expect(1).complains(&["No such image: nobody/knows:latest"]);
    // Removed by its id it has three names, which is too many without force.
    wherry.call(["rmi", &id]).expect(1).complains(&["must be forced"]);
    wherry.ok(["rmi", "localhost:5000/team/app"]);
    let events =
        wherry.ok(["events", "--since", "1h", "--until", "0s", "--filter", "type=image", "--format", "{{.Action}}"]);
    assert!(events.contains("tag") && events.contains("untag"), "{events}");
}

#[test]
fn lists_are_filtered_and_formatted_as_docker_does() {
    let (image, other) = (images::busybox(), images::busybox_zstd());
    let wherry = Wherry::with(&image);
    wherry.ok(["pull", "-q", &other]);
    wherry.ok(["tag", &image, "web/front:2"]);
    let list = |arguments: &[&str]| wherry.ok([&["images"], arguments].concat());
    assert_eq!(list(&["--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=web/*"]), "web/front:2");
    assert_eq!(list(&["-f", "reference=*/*:2", "--format", "{{.Tag}}"]), "2");
    let columns = list(&["--format", "table {{.Tag}}\\t{{.ID}}", "-f", "reference=web/front"]);
    assert!(columns.starts_with("TAG       IMAGE ID\n2         "), "{columns}");
    assert_eq!(list(&["-f", "dangling=true", "-q"]), "");
    wherry.ok(["tag", &other, "web/front:2"]);
    wherry.ok(["rmi", &image]);
    let dangling = list(&["-f", "dangling=true"]);
    assert!(dangling.lines().nth(1).is_some_and(|line| line.starts_with("web/front    <none>")), "{dangling}");
    assert_eq!(list(&["-f", "until=1h", "-f", "label=no.such.label", "-q"]), "");
    let newer = list(&["-q", "-f", &format!("since={other}")]);
    let older = list(&["-q", "-f", &format!("before={other}")]);
    assert!(newer.is_empty() || older.is_empty(), "{newer} {older}");
    wherry.call(["images", "-f", "nonsense=1"]).expect(1).complains(&["invalid filter 'nonsense'", "dangling"]);
    wherry.call(["images", "-f", "dangling=perhaps"]).expect(1).complains(&["neither true nor false"]);
    wherry.call(["images", "--format", "{{.Nope}}"]).expect(1).complains(&["can't evaluate field Nope"]);
    let all = list(&["--format", "{{range $k, $v := .}}{{$k}} {{end}}"]);
    let first =
        "Containers CreatedAt CreatedSince Digest ID Platform Repository SharedSize Size Tag UniqueSize VirtualSize";
    assert!(all.starts_with(first), "{all}");
}

#[test]
fn history_tells_the_steps_and_what_they_weigh() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let table = wherry.ok(["history", &image]);
    assert!(table.starts_with("IMAGE          CREATED"), "{table}");
    let id = wherry.ok(["images", "-q", &image]);
    assert!(table.lines().nth(1).unwrap().starts_with(&id), "{table}");
    assert!(table.lines().skip(2).all(|line| line.starts_with("<missing>")), "{table}");
    let sizes = wherry.ok(["history", "--human=false", "--format", "{{.Size}}", &image]);
    let files: u64 = sizes.lines().map(|size| size.parse::<u64>().unwrap()).sum();
    assert!(files > 500_000, "the files of busybox: {sizes}");
    assert_eq!(wherry.ok(["image", "history", "-q", &image]).lines().next().unwrap(), id);
    wherry.call(["history", "nothing"]).expect(1).complains(&["No such image: nothing"]);
}

#[test]
fn what_nobody_needs_is_pruned_and_what_is_used_stays() {
    let (image, other) = (images::busybox(), images::deep());
    let wherry = Wherry::with(&image);
    wherry.ok(["pull", "-q", &other]);
    wherry.ok(["create", "--name", "user", &image, "true"]);
    wherry.ok(["tag", &other, "moving"]);
    wherry.ok(["rmi", &other]);
    wherry.ok(["tag", &image, "moving"]);
    assert_eq!(wherry.ok(["image", "prune", "-f", "--filter", "label=none"]), "Total reclaimed space: 0B");
    let asked = wherry.call(["image", "prune"]).expect(0);
    assert!(asked.stdout.contains("Are you sure you want to continue? [y/N]"), "{}", asked.stdout);
    let said = wherry.ok(["image", "prune", "-f"]);
    assert!(said.starts_with("Deleted Images:\nuntagged: ") && said.contains("\ndeleted: sha256:"), "{said}");
    assert!(!said.ends_with("Total reclaimed space: 0B"), "{said}");
    let df = wherry.ok(["system", "df"]);
    assert!(df.starts_with("TYPE            TOTAL     ACTIVE    SIZE"), "{df}");
    let images: Vec<&str> = df.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(images[..3], ["Images", "1", "1"], "{df}");
    assert!(images.last().unwrap().starts_with("(0%"), "nothing of an image in use can be reclaimed: {df}");
    assert!(wherry.ok(["system", "df", "-v"]).contains("Containers space usage:"));
    let pruned = wherry.ok(["system", "prune", "-a", "-f"]);
    assert!(pruned.starts_with("Deleted Containers:\n") && pruned.contains("Deleted Images:\n"), "{pruned}");
    assert_eq!(wherry.ok(["images", "-q"]), "");
    assert_eq!(names(wherry.root(), "content/blobs/sha256"), Vec::<String>::new());
    assert_eq!(names(wherry.root(), "layers"), Vec::<String>::new());
}

#[test]
fn an_image_is_inspected_as_the_api_has_it() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let shown: Value = serde_json::from_str(&wherry.ok(["image", "inspect", &image])).unwrap();
    let shown = &shown[0];
    for field in
        ["Id", "RepoTags", "RepoDigests", "Created", "Architecture", "Os", "Size", "Config", "RootFS", "Metadata"]
    {
        assert!(!shown[field].is_null(), "{field}: {shown}");
    }
    assert_eq!(shown["RepoTags"][0], image.as_str());
    assert_eq!(
        wherry.ok(["inspect", "--type", "image", "-f", "{{.Os}}/{{.Architecture}}", &image]),
        wherry.ok(["image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", &image])
    );
    wherry.call(["image", "inspect", "nothing"]).expect(1).complains(&["No such image: nothing"]).says("[]\n");
}

#[test]
fn one_platform_of_a_name_can_go_alone() {
    let image = images::index();
    let wherry = Wherry::with(&image);
    wherry.ok(["pull", "-q", "--platform", "wasi/wasm", &image]);
    let platforms = |format: &str| wherry.ok(["images", "--format", format]);
    assert_eq!(platforms("{{.Platform}}").lines().count(), 2);
    let strange = wherry.call(["rmi", "--platform", "linux/s390x", &image]).expect(1).says("");
    strange.complains(&["image with reference", "was found but does not provide the specified platform (linux/s390x)"]);
    let said = wherry.ok(["rmi", "--no-prune", "--platform", "wasi/wasm", &image]);
    assert!(said.starts_with("Deleted: sha256:") && !said.contains("Untagged"), "the name is still there: {said}");
    assert_eq!(platforms("{{.Repository}}:{{.Tag}}"), image);
    assert_eq!(wherry.ok(["run", "--rm", "--pull", "never", &image, "echo", "native"]), "native");
    assert!(wherry.ok(["rmi", &image]).starts_with(&format!("Untagged: {image}\nDeleted: sha256:")));
}

#[test]
fn patterns_and_names_are_told_apart() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    for name in ["box", "web/front:1", "web/back:2", "localhost:5000/team/app", "xn--bcher-kva.example/x:1"] {
        wherry.ok(["tag", &image, name]);
    }
    let named = |arguments: &[&str]| {
        let mut names: Vec<String> = wherry
            .ok([&["images", "--format", "{{.Repository}}:{{.Tag}}"], arguments].concat())
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    let (front, back) = ("web/front:1".to_owned(), "web/back:2".to_owned());
    assert_eq!(named(&["web/*"]), [back.clone(), front.clone()]);
    assert_eq!(named(&["-f", "reference=web/front", "-f", "reference=*/back:2"]), [back, front.clone()], "either");
    assert_eq!(named(&["web"]), Vec::<String>::new(), "no beginning of a name is one");
    assert_eq!(named(&["front"]), Vec::<String>::new());
    for same in
        ["box", "library/box", "docker.io/library/box", "docker.io/box", "index.docker.io/library/box:latest", "b?x"]
    {
        assert_eq!(named(&[same]), ["box:latest"], "{same}");
    }
    assert_eq!(named(&["localhost:5000/*/*"]), ["localhost:5000/team/app:latest"]);
    assert_eq!(named(&["team/app"]), Vec::<String>::new(), "of Docker Hub, which is another image");
    assert_eq!(named(&["xn--bcher-kva.example/x"]), ["xn--bcher-kva.example/x:1"], "as it is, never as it looks");
    wherry.call(["images", "web/["]).expect(1).complains(&["syntax error in pattern"]);
    wherry.call(["images", "-f", "dangling=true", "-f", "dangling=false"]).expect(1).complains(&["[false true]"]);
    wherry.call(["images", "-f", "since=nope"]).expect(1).complains(&["No such image: nope:latest"]);
    // What cannot be a name is said to be none, by each command.
    for command in [&["rmi", "Box"][..], &["history", "Box"], &["image", "inspect", "Box"], &["tag", "Box", "x"]] {
        wherry.call(command).expect(1).complains(&["repository name (Box) must be lowercase", "did you mean box"]);
    }
    for bad in ["x:", "x/", "a..b/c", "x:-y", "b\u{fc}cher.example/x", "-x"] {
        wherry.call(["tag", &image, "--", bad]).expect(1).complains(&["invalid reference format"]);
    }
    let id = "0".repeat(64);
    wherry.call(["tag", &id, "x"]).expect(1).complains(&["No such image", &id]);
    wherry.call(["tag", &image, &id]).expect(1).complains(&["64-byte hexadecimal"]);
    wherry.call(["rmi", &wherry.ok(["images", "-q", "box"])]).expect(1).complains(&["multiple repositories", &front]);
}

/// What an image says of itself must not move the cursor, nor stand for more than text in what is read by programs.
#[test]
fn what_an_image_says_is_only_text_on_a_terminal() {
    let layer = handmade::tar(&[("hello", b"world")]);
    let evil = "x\u{1b}[2J\u{9b}31m\u{7}\u{8}\r\u{202e}\ty<b>";
    let mut image = Handmade::image("linux/amd64", &[evil], vec![(handmade::TAR, layer)]);
    image.config.1["author"] = evil.into();
    image.config.1["created"] = evil.into();
    image.config.1["config"]["Labels"] = json!({"evil": evil, evil: "key"});
    image.config.1["config"]["Env"] = json!([format!("A={evil}")]);
    image.config.1["history"] = json!([{"created_by": format!("RUN {evil}\nnext"), "comment": evil, "created": evil}]);
    let name = image.push("evil", "text");
    let wherry = Wherry::with(&name);
    wherry.ok(["create", "--platform", "linux/amd64", "--name", "evil", &name]);
    let harmless = |arguments: &[&str]| {
        let said = wherry.call(arguments);
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(!all.chars().any(|c| c == '\u{202e}' || (c.is_control() && c != '\n' && c != '\t')), "{all:?}");
        said.expect(0).stdout
    };
    for command in ["images", "history", "ps -a", "system df -v"] {
        let mut words: Vec<&str> = command.split(' ').collect();
        if command == "history" {
            words.extend(["--no-trunc", &name]);
        }
        harmless(&words);
    }
    let history = harmless(&["history", "--no-trunc", &name]);
    assert_eq!(history.lines().count(), 2, "a step is a line: {history}");
    let line: Value = serde_json::from_str(&harmless(&["history", "--format", "json", "--no-trunc", &name])).unwrap();
    assert_eq!(line["Comment"], evil, "and programs read what it is");
    let shown: Value = serde_json::from_str(&harmless(&["image", "inspect", &name])).unwrap();
    assert_eq!(shown[0]["Config"]["Labels"]["evil"], evil);
    assert_eq!((&shown[0]["Author"], &shown[0]["Created"]), (&evil.into(), &evil.into()));
    harmless(&[
        "image",
        "inspect",
        "-f",
        "{{.Author}} {{.Config.Labels}} {{range .Config.Env}}{{println .}}{{end}}",
        &name,
    ]);
    let labels = harmless(&["image", "inspect", "-f", "{{json .Config.Labels}}", &name]);
    assert_eq!(serde_json::from_str::<Value>(&labels).unwrap()["evil"], evil);
    harmless(&["inspect", "evil"]);
    for format in ["json", "{{.Command}}", "table {{.Command}}\\t{{.Names}}"] {
        harmless(&["ps", "-a", "--no-trunc", "--format", format]);
    }
    wherry.ok(["rm", "evil"]);
}

#[test]
fn sizes_are_those_of_the_files() {
    let layers = [("one", &b"12345"[..]), ("two", b"1234567")];
    let layers = layers.map(|(name, bytes)| (handmade::TAR, handmade::tar(&[(name, bytes)]))).to_vec();
    let mut image = Handmade::image("linux/amd64", &["/x"], layers);
    image.config.1["created"] = "2024-01-02T03:04:05.678Z".into();
    image.config.1["variant"] = "v3".into();
    let name = image.push("sizes", "latest");
    let wherry = Wherry::new();
    wherry.ok(["pull", "-q", "--platform", "linux/amd64", &name]);
    assert_eq!(wherry.ok(["images", "--format", "{{.Size}} {{.VirtualSize}} {{.Containers}}"]), "12B 12B 0");
    assert_eq!(
        wherry.ok(["image", "inspect", "-f", "{{.Size}} {{.Variant}} {{.GraphDriver.Data}}", &name]),
        "12 v3 map[]"
    );
    let absent =
        "{{.Config.Cmd}} {{.Config.Labels}} [{{.Config.User}}] {{range $p, $c := .Config.ExposedPorts}}x{{end}}";
    assert_eq!(wherry.ok(["image", "inspect", "-f", absent, &name]), "[] map[] []");
    assert_eq!(wherry.ok(["history", "--format", "{{.Size}}", &name]), "7B\n5B");
    let created = wherry.ok(["images", "--format", "{{.CreatedAt}}"]);
    assert_eq!(created, "2024-01-02 03:04:05 +0000 UTC");
    let table = wherry.ok(["history", "-H=false", &name]);
    assert!(table.starts_with("IMAGE          CREATED AT   CREATED BY   SIZE      COMMENT\n"), "{table}");
    assert!(wherry.ok(["image", "inspect", &name]).starts_with("[\n    {\n        \"Architecture\": \"amd64\",\n"));
    let df = wherry.ok(["system", "df", "-v"]);
    for section in [
        "\nLocal Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\n",
        "\nBuild cache usage: 0B\n\nCACHE ID   CACHE TYPE",
    ] {
        assert!(df.contains(section), "{df}");
    }
    let pruned = wherry.call(["system", "prune", "-f", "--volumes"]).expect(0).complains(&["no volumes here yet"]);
    assert!(pruned.stdout.ends_with("Total reclaimed space: 0B\n"), "{}", pruned.stdout);
    let until = ["system", "prune", "-f", "--volumes", "--filter", "until=1h"];
    wherry.call(until).expect(1).complains(&["The \"until\" filter is not supported with \"--volumes\""]);
    let nonsense = ["system", "prune", "-f", "--filter", "nonsense=1"];
    wherry.call(nonsense).expect(1).complains(&["invalid filter 'nonsense'"]).says("");
}
