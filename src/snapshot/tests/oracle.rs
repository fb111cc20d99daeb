//! GNU tar as the judge: the same archive, unpacked by both, is the same tree, down to times, attributes,
//! hard links and holes; and both list the same names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::craft::{Block, Scene, Tar, layer, run, tree};
use crate::snapshot::tar::Reader;

/// One of everything that a layer can hold.
fn build_tree(at: &Path) {
    let dir = |name: &str| fs::create_dir_all(at.join(name)).unwrap();
    ["bin", "etc/deep/er", "tmp", "empty", "dev", "ünï cödé"].into_iter().for_each(dir);
    fs::write(at.join("bin/su"), [7u8; 70_000]).unwrap();
    fs::write(at.join("bin/ping"), "p").unwrap();
    fs::write(at.join("etc/deep/er/conf"), "a=b\n").unwrap();
    fs::write(at.join("ünï cödé/näme\n\\x"), "odd").unwrap();
    fs::write(at.join("empty-file"), "").unwrap();
    fs::hard_link(at.join("bin/su"), at.join("bin/sudo")).unwrap();
    fs::hard_link(at.join("bin/su"), at.join("etc/su")).unwrap();
    symlink("/bin/su", at.join("etc/absolute")).unwrap();
    symlink("../../bin", at.join("etc/deep/relative")).unwrap();
    symlink("nowhere", at.join("etc/dangling")).unwrap();
    let long = format!("{}/{}", "d".repeat(120), "e".repeat(150));
    fs::create_dir_all(at.join(&long)).unwrap();
    fs::write(at.join(&long).join("f".repeat(200)), "long").unwrap();
    symlink("t".repeat(180), at.join(&long).join("link")).unwrap();
    run(Command::new("mkfifo").arg(at.join("dev/fifo")));
    run(Command::new("mknod").arg(at.join("dev/null")).args(["c", "1", "3"]));
    run(Command::new("mknod").arg(at.join("dev/loop0")).args(["b", "7", "0"]));
    let own = |name: &str, uid, gid, mode| {
        std::os::unix::fs::chown(at.join(name), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    own("bin/su", 0, 0, 0o4755);
    own("tmp", 0, 0, 0o1777);
    own("etc/deep", 1000, 50, 0o2770);
    own("etc/deep/er/conf", 65534, 65534, 0o600);
    // CAP_NET_RAW, effective and permitted, revision 2: what ping has.
    attribute(at, "bin/ping", "security.capability", &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    attribute(at, "etc/deep", "user.note", b"with = and \0 and \n");
    attribute(at, "bin/su", "trusted.note", b"t");
}

fn attribute(at: &Path, name: &str, key: &str, value: &[u8]) {
    rustix::fs::lsetxattr(at.join(name), key, value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn build_sparse(at: &Path) {
    use std::os::unix::fs::FileExt;
    let sparse = |name: &str, size: u64, runs: &[u64]| {
        let file = File::create(at.join(name)).unwrap();
        runs.iter().for_each(|run| file.write_all_at(&[b'x'; 4096], *run).unwrap());
        file.set_len(size).unwrap();
    };
    sparse("hole", 10 << 20, &[]);
    sparse("holes", 64 << 20, &[0, 1 << 20, 63 << 20]);
    let many: Vec<u64> = (0..100).map(|n| n * 16384).collect();
    sparse("many-holes", 2 << 20, &many);
}

fn archive(of: &Path, options: &[&str]) -> Tar {
    let file = tempfile::NamedTempFile::new().unwrap();
    run(Command::new("tar").args(options).args(["--numeric-owner", "-cf"]).arg(file.path()).arg("-C").arg(of).arg("."));
    Tar(fs::read(file.path()).unwrap())
}

fn gnu_extract(tar: &Tar, into: &Path) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &tar.0).unwrap();
    fs::create_dir_all(into).unwrap();
    let options = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"];
    run(Command::new("tar").args(options).arg(file.path()).arg("-C").arg(into));
}

/// Which paths are one file, and how many blocks each takes.
fn inodes(root: &Path) -> (Vec<Vec<PathBuf>>, BTreeMap<PathBuf, u64>) {
    let mut groups: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut blocks = BTreeMap::new();
    for path in tree(root).into_keys().map(PathBuf::from) {
        let meta = fs::symlink_metadata(root.join(&path)).unwrap();
        if meta.is_file() {
            groups.entry(meta.ino()).or_default().push(path.clone());
            blocks.insert(path, meta.blocks());
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort();
    (groups, blocks)
}

fn same_as_gnu(tar: &Tar) {
    let scene = Scene::new();
    let gnu = scene.dir.path().join("gnu");
    gnu_extract(tar, &gnu);
    let chain = scene.run(std::slice::from_ref(tar)).unwrap();
    assert_eq!(tree(&chain.dirs()[0]), tree(&gnu));
    assert_eq!(inodes(&chain.dirs()[0]).0, inodes(&gnu).0);
    same_names_as_gnu(tar);
}

/// The names that the reader and GNU tar find.
fn same_names_as_gnu(tar: &Tar) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &tar.0).unwrap();
    let listed = run(Command::new("tar").args(["--quoting-style=escape", "-tf"]).arg(file.path()));
    let mut reader = Reader::new(&tar.0[..]);
    let mut names = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path).replace('\\', "\\\\").replace('\n', "\\n");
        names.push(name.trim_end_matches('/').to_owned());
    }
    let letters =
        [("ü", "\\303\\274"), ("ï", "\\303\\257"), ("ö", "\\303\\266"), ("é", "\\303\\251"), ("ä", "\\303\\244")];
    let plain = |line: &str| letters.iter().fold(line.to_owned(), |line, (letter, octal)| line.replace(octal, letter));
    assert_eq!(names, listed.lines().map(|line| plain(line).trim_end_matches('/').to_owned()).collect::<Vec<_>>());
}

#[test]
fn every_format_of_gnu_tar() {
    let source = tempfile::tempdir().unwrap();
    build_tree(source.path());
    same_as_gnu(&archive(source.path(), &["--format=gnu"]));
    same_as_gnu(&archive(source.path(), &["--format=pax", "--xattrs", "--xattrs-include=*"]));
    same_as_gnu(&archive(source.path(), &["--format=oldgnu"]));
    // These two have no place for names that long.
    fs::remove_dir_all(source.path().join("d".repeat(120))).unwrap();
    same_as_gnu(&archive(source.path(), &["--format=ustar"]));
    fs::remove_dir_all(source.path().join("dev")).unwrap();
    same_as_gnu(&archive(source.path(), &["--format=v7"]));
}

#[test]
fn every_sparse_format_keeps_its_holes() {
    let source = tempfile::tempdir().unwrap();
    build_sparse(source.path());
    for options in [
        &["--format=gnu", "--sparse"][..],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ] {
        let tar = archive(source.path(), options);
        assert!(tar.0.len() < 2 << 20, "{options:?} is not sparse");
        same_as_gnu(&tar);
        let scene = Scene::new();
        let chain = scene.run(&[tar]).unwrap();
        let (_, blocks) = inodes(&chain.dirs()[0]);
        assert!(blocks[Path::new("holes")] <= 64 && blocks[Path::new("hole")] == 0, "{options:?}: {blocks:?}");
    }
}

#[test]
fn odd_but_agreed_archives_list_the_same() {
    let t = Tar::new;
    for tar in [
        t().file("a", "x").file("a", "y").end(),
        t().pax(&[("size", b"1024")])
            .block(Block::new(b'0', "f").size(0))
            .raw(&Block::new(b'0', "in").sealed())
            .raw(&[0; 512])
            .file("g", "")
            .end(),
        t().pax(&[("path", b"a")]).block(&Block::new(b'5', "b")).end(),
        t().gnu(b'L', "long").gnu(b'K', "target").symlink("x", "y").end(),
        t().with_data(&mut Block::new(b'g', "g"), b"13 comment=x\n").file("c", "x").end(),
        t().block(Block::new(b'0', "f").text(345, b"prefix")).end(),
        t().block(&Block::new(0, "d/")).end(),
        t().file("before", "x").end().file("after", "y"),
    ] {
        same_names_as_gnu(&tar);
    }
}

/// Directories that every Debian has, some with many files and links.
const REAL: [&str; 3] = ["/etc", "/usr/share/perl5", "/usr/share/common-licenses"];

#[test]
fn real_directories_as_layers_are_what_gnu_tar_makes_of_them() {
    let scene = Scene::new();
    let gnu = scene.dir.path().join("gnu");
    let mut layers = Vec::new();
    for dir in REAL.iter().filter(|dir| Path::new(dir).is_dir()) {
        let file = scene.dir.path().join("tar");
        let options = ["--format=pax", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf"];
        run(Command::new("tar").args(options).arg(&file).arg("-C").arg("/").arg(&dir[1..]));
        layers.push(Tar(fs::read(&file).unwrap()));
        gnu_extract(layers.last().unwrap(), &gnu);
    }
    let chain = scene.run(&layers).unwrap();
    let rootfs = scene.store.rootfs(&chain, scene.dir.path()).unwrap();
    let mounted = rootfs.recipe().detached(true).unwrap();
    let merged = super::rootfs::inside(&mounted);
    let unlike = |root: &Path| {
        let mut tree = tree(root);
        // Directories that the archives only imply: GNU tar gives those the time of day.
        tree.retain(|path, _| !["", "usr", "usr/share"].contains(&path.as_str()));
        tree
    };
    assert_eq!(unlike(&merged), unlike(&gnu));
}

#[test]
fn a_layer_of_real_size_unpacks_whole_when_compressed() {
    let scene = Scene::new();
    let tar = archive(Path::new("/usr/share/perl5"), &["--format=gnu"]);
    let blob = super::craft::gzip(&tar.0);
    scene.add_blob(&blob);
    let mut compressed = layer(&blob);
    compressed.diff_id = layer(&tar.0).diff_id;
    let chain = scene.unpack_layers(&[compressed]).unwrap();
    let gnu = scene.dir.path().join("gnu");
    gnu_extract(&tar, &gnu);
    assert_eq!(tree(&chain.dirs()[0]), tree(&gnu));
}
