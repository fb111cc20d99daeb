//! Hostile and odd archives, one layer each. Every case also proves that nothing outside changed: the scene
//! compares a canary directory before and after, and the archives aim at it.

use super::craft::{Block, Scene, Tar, describe};

/// What a case leads to.
enum Then {
    /// Refused, with this in the message.
    Refused(&'static str),
    /// Unpacked; these paths are described by lines that start so, and no others but the root exist.
    Tree(&'static [(&'static str, &'static str)]),
}

use Then::{Refused, Tree};

fn check(name: &str, tar: Tar, then: Then) {
    let scene = Scene::new();
    let tar = Tar(aimed(&tar.0, &scene));
    match then {
        Refused(why) => {
            let message = scene.refusal(&[tar]);
            assert!(message.contains(why), "{name}: {message}");
        }
        Tree(expected) => {
            let mut tree = scene.tree_of(tar.clone());
            super::peers::compare(name, &scene, &tar, &tree);
            tree.remove("");
            let paths: Vec<&str> = tree.keys().map(String::as_str).collect();
            let expected_paths: Vec<&str> = expected.iter().map(|(path, _)| *path).collect();
            assert_eq!(paths, expected_paths, "{name}");
            for (path, start) in expected {
                assert!(tree[*path].starts_with(start), "{name}: {path} is {}", tree[*path]);
            }
        }
    }
}

/// Puts the canary's real path where the archive says CANARY…; the field is long enough, checksums are redone.
fn aimed(bytes: &[u8], scene: &Scene) -> Vec<u8> {
    let path = scene.canary().display().to_string();
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512) {
        let Some(at) = block.windows(6).position(|window| window == b"CANARY") else { continue };
        let field = if at < 100 { 0..100 } else { 157..257 };
        let text = String::from_utf8_lossy(&block[field.clone()]).trim_end_matches('\0').replace("CANARY", &path);
        assert!(text.len() <= 100, "the scratch directory's path is too long for this test");
        block[field.clone()].fill(0);
        block[field.start..field.start + text.len()].copy_from_slice(text.as_bytes());
        let mut whole = Block([0; 512]);
        whole.0.copy_from_slice(block);
        block.copy_from_slice(&whole.sealed());
    }
    bytes
}

fn t() -> Tar {
    Tar::new()
}

macro_rules! cases {
    ($($name:ident: $tar:expr => $then:expr;)+) => {
        $(#[test] fn $name() { check(stringify!($name), $tar, $then); })+

        #[test]
        fn there_are_enough_cases() {
            assert!([$(stringify!($name)),+].len() >= 60);
        }
    };
}

cases! {
    // Names that lead out.
    parent_name: t().file("../victim", "x").end() => Refused("\"..\"");
    parent_in_the_middle: t().dir("a").file("a/../../victim", "x").end() => Refused("\"..\"");
    parent_at_the_end: t().dir("a/..").end() => Refused("\"..\"");
    parent_that_stays_inside: t().file("a/../b", "x").end() => Refused("\"..\"");
    parent_in_a_long_name: t().gnu(b'L', "../../victim").file("x", "x").end() => Refused("\"..\"");
    parent_in_a_pax_path: t().pax(&[("path", b"../victim")]).file("x", "x").end() => Refused("\"..\"");
    parent_in_a_prefix: t().block(Block::new(b'5', "x").text(345, b"../..")).end() => Refused("\"..\"");
    parent_whiteout: t().file("../.wh.victim", "").end() => Refused("\"..\"");
    absolute_short: t().file("/victim", "x").end() => Tree(&[("victim", "file \"x\"")]);
    many_slashes: t().file("//a//.//b", "x").end() => Tree(&[("a", "dir 755 0:0 @0."), ("a/b", "file \"x\"")]);
    dot_only: t().dir("./").file("./a", "x").end() => Tree(&[("a", "file \"x\"")]);
    root_is_a_file: t().file(".", "x").end() => Refused("root of a layer");
    root_is_a_symlink: t().symlink("./", "CANARY").end() => Refused("root of a layer");
    empty_name: t().file("", "x").end() => Refused("without a name");
    nul_in_pax_path: t().pax(&[("path", b"a\0b")]).file("x", "x").end() => Refused("NUL");

    // Symlinks, and things put through them.
    file_through_absolute_symlink: t().symlink("l", "/etc").file("l/passwd", "x").end()
        => Tree(&[("etc", "dir"), ("etc/passwd", "file \"x\""), ("l", "-> /etc")]);
    file_through_relative_symlink: t().symlink("l", "../../../../canary").file("l/victim", "x").end()
        => Tree(&[("canary", "dir"), ("canary/victim", "file \"x\""), ("l", "-> ../../../../canary")]);
    file_through_canary_symlink: t().symlink("l", "CANARY").file("l/../victim", "x").end() => Refused("\"..\"");
    file_onto_symlink: t().symlink("l", "CANARY/victim").file("l", "x").end() => Tree(&[("l", "file \"x\"")]);
    dir_onto_symlink: t().symlink("l", "CANARY").dir("l").file("l/victim", "x").end()
        => Tree(&[("l", "dir"), ("l/victim", "file \"x\"")]);
    symlink_onto_dir: t().dir("d").file("d/f", "x").symlink("d", "e").file("d/victim", "y").end()
        => Tree(&[("d", "-> e"), ("e", "dir"), ("e/victim", "file \"y\"")]);
    symlink_chain: t().symlink("a", "b").symlink("b", "c/d").file("a/f", "x").end()
        => Tree(&[("a", "-> b"), ("b", "-> c/d"), ("c", "dir"), ("c/d", "dir"), ("c/d/f", "file \"x\"")]);
    symlink_with_dots: t().dir("a").dir("a/b").symlink("a/b/l", "../../x").file("a/b/l/f", "y").end()
        => Tree(&[("a", "dir"), ("a/b", "dir"), ("a/b/l", "-> ../../x"), ("x", "dir"), ("x/f", "file \"y\"")]);
    symlink_loop: t().symlink("a", "b").symlink("b", "a").file("a/f", "x").end() => Refused("symlinks have to be followed");
    symlink_to_itself: t().symlink("a", "a").file("a/f", "x").end() => Refused("symlinks have to be followed");
    symlink_to_dot: t().symlink("a", ".").file("a/f", "x").end() => Tree(&[("a", "-> ."), ("f", "file \"x\"")]);
    symlink_to_file_as_parent: t().file("f", "x").symlink("l", "f").file("l/g", "y").end() => Refused("is a file");
    file_as_parent: t().file("f", "x").file("f/g", "y").end() => Refused("is a file");
    opaque_through_symlink: t().symlink("l", "/d").file("l/.wh..wh..opq", "").end()
        => Tree(&[("d", "dir"), ("l", "-> /d")]);
    symlink_without_target: t().block(&Block::new(b'2', "l")).end() => Refused("without a target");
    proc_magic_link: t().symlink("l", "/proc/self/root").file("l/f", "x").end()
        => Tree(&[("l", "-> /proc/self/root"), ("proc", "dir"), ("proc/self", "dir"), ("proc/self/root", "dir"), ("proc/self/root/f", "file \"x\"")]);

    // Hard links.
    link_to_parent: t().link("l", "../canary/victim").end() => Refused("\"..\"");
    link_to_absolute: t().link("l", "CANARY/victim").end() => Refused("does not exist in this layer");
    link_through_symlink: t().symlink("d", "CANARY").link("l", "d/victim").end() => Refused("does not exist in this layer");
    link_to_symlink: t().symlink("s", "t").link("l", "s").end() => Tree(&[("l", "-> t"), ("s", "-> t")]);
    link_to_directory: t().dir("d").link("l", "d").end() => Refused("is a directory");
    link_to_root: t().link("l", "./").end() => Refused("is a directory");
    link_to_nothing: t().link("l", "nothing").end() => Refused("does not exist in this layer");
    link_to_itself: t().file("f", "x").link("f", "./f").end() => Tree(&[("f", "file \"x\" x1")]);
    link_to_gone: t().file(".wh.f", "").link("l", "f").end() => Refused("does not exist in this layer");
    link_then_target_changes: t().file("f", "x").link("l", "f").file("f", "y").end()
        => Tree(&[("f", "file \"y\" x1"), ("l", "file \"x\" x1")]);
    link_with_absolute_name: t().dir("d").file("d/f", "x").link("l", "/d/f").end()
        => Tree(&[("d", "dir"), ("d/f", "file \"x\" x2"), ("l", "file \"x\" x2")]);
    link_with_data: t().file("f", "x").pax(&[("size", b"5")]).link("l", "f").data(b"hello").end() => Refused("has data");

    // Devices, modes, attributes.
    overlay_whiteout_device: t().char_device("f", 0, 0).end() => Refused("character device 0:0");
    a_device: t().char_device("null", 1, 3).end() => Tree(&[("null", "c 1:3 644 0:0")]);
    a_device_through_symlink: t().symlink("dev", "/d").char_device("dev/null", 1, 3).end()
        => Tree(&[("d", "dir"), ("d/null", "c 1:3"), ("dev", "-> /d")]);
    device_number_out_of_range: t().block(Block::new(b'3', "d").text(329, &[0x80, 0, 0, 1, 0, 0, 0, 0])).end() => Refused("device number");
    set_id_survives_chown: t().block(Block::new(b'0', "su").mode(0o6755).owner(7, 8)).end() => Tree(&[("su", "file \"\" x1 6755 7:8")]);
    set_id_directory_is_not_inherited: t().block(Block::new(b'5', "d").mode(0o2775).owner(0, 50)).file("d/f", "x").end()
        => Tree(&[("d", "dir 2775 0:50"), ("d/f", "file \"x\" x1 644 0:0")]);
    no_permission_directory: t().block(Block::new(b'5', "d").mode(0)).file("d/f", "x").end() => Tree(&[("d", "dir 0 0:0"), ("d/f", "file")]);
    chmod_through_link: t().symlink("l", "CANARY/victim").block(Block::new(b'5', "l").mode(0o7777)).end() => Tree(&[("l", "dir 7777")]);
    overlay_xattr_is_escaped: t().pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")]).dir("d").end()
        => Tree(&[("d", "dir 755 0:0 @978307200.000000000 trusted.overlay.overlay.opaque=y")]);
    host_policy_xattr_is_left_out: t().pax(&[("SCHILY.xattr.security.selinux", b"x"), ("SCHILY.xattr.security.ima", b"y"), ("SCHILY.xattr.user.z", b"z")]).file("f", "x").end()
        => Tree(&[("f", "file \"x\" x1 644 0:0 @978307200.000000000 user.z=z")]);
    overlay_xattr_of_users_is_content_here: t().pax(&[("SCHILY.xattr.user.overlay.opaque", b"y")]).dir("d").end()
        => Tree(&[("d", "dir 755 0:0 @978307200.000000000 user.overlay.opaque=y")]);
    capability_of_revision_3: t().pax(&[("SCHILY.xattr.security.capability", &[1, 0, 0, 3, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])]).file("f", "x").end()
        => Tree(&[("f", "file \"x\" x1 644 0:0 @978307200.000000000 security.capability=\\x01")]);
    uid_minus_one: t().block(Block::new(b'0', "f").text(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])).end() => Refused("uid");
    negative_uid: t().block(Block::new(b'0', "f").text(108, &[0xff; 8])).end() => Refused("negative");
    huge_uid_in_pax: t().pax(&[("uid", b"4294967296")]).file("f", "x").end() => Refused("uid");
    large_uid: t().block(Block::new(b'0', "f").text(108, &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff])).end() => Tree(&[("f", "file \"\" x1 644 2147483647:0")]);
    time_before_1970: t().pax(&[("mtime", b"-1.5")]).file("f", "x").end() => Tree(&[("f", "file \"x\" x1 644 0:0 @-2.500000000")]);
    fifo: t().block(&Block::new(b'6', "p")).end() => Tree(&[("p", "fifo 644")]);

    // Whiteouts.
    whiteout_of_no_name: t().file(".wh.", "").end() => Refused("whiteout");
    whiteout_of_dot: t().file("a/.wh..", "").end() => Refused("whiteout");
    whiteout_of_dot_dot: t().file("a/.wh...", "").end() => Refused("whiteout");
    entry_in_a_whiteout: t().file(".wh.a/b", "").end() => Refused("whiteout");
    aufs_bookkeeping: t().file(".wh..wh.aufs", "").dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "x").file("f", "x").end()
        => Tree(&[("f", "file \"x\"")]);
    whiteout: t().dir("d").file("d/.wh.gone", "").end() => Tree(&[("d", "dir"), ("d/gone", "c 0:0 0")]);
    whiteout_then_entry: t().file(".wh.f", "").file("f", "x").end() => Tree(&[("f", "file \"x\"")]);
    entry_then_whiteout: t().file("f", "x").file(".wh.f", "").end() => Tree(&[("f", "file \"x\"")]);
    whiteout_then_directory: t().file(".wh.d", "").dir("d").end()
        => Tree(&[("d", "dir 755 0:0 @978307200.000000000 trusted.overlay.opaque=y")]);
    directory_then_whiteout: t().dir("d").file("d/f", "x").file(".wh.d", "").end()
        => Tree(&[("d", "dir 755 0:0 @978307200.000000000 trusted.overlay.opaque=y"), ("d/f", "file \"x\"")]);
    whiteout_then_implied_directory: t().file(".wh.d", "").file("d/f", "x").end()
        => Tree(&[("d", "dir 755 0:0 @0.000000000 trusted.overlay.opaque=y"), ("d/f", "file \"x\"")]);
    whiteout_below_a_file: t().file("d", "x").file("d/.wh.f", "").file("d/e/.wh.f", "").end() => Tree(&[("d", "file \"x\"")]);
    whiteout_below_a_symlink_to_a_file: t().file("f", "x").symlink("l", "f").file("l/.wh.g", "").end()
        => Tree(&[("f", "file \"x\""), ("l", "-> f")]);
    opaque_below_a_file: t().file("d", "x").file("d/.wh..wh..opq", "").end() => Refused("is a file");
    whiteout_twice: t().file(".wh.f", "").file(".wh.f", "").end() => Tree(&[("f", "c 0:0 0")]);
    opaque_first: t().dir("d").file("d/.wh..wh..opq", "").file("d/f", "x").end()
        => Tree(&[("d", "dir 755 0:0 @978307200.000000000 trusted.overlay.opaque=y"), ("d/f", "file \"x\"")]);
    opaque_last: t().dir("d").file("d/f", "x").file("d/.wh..wh..opq", "").end()
        => Tree(&[("d", "dir 755 0:0 @978307200.000000000 trusted.overlay.opaque=y"), ("d/f", "file \"x\"")]);
    file_then_directory_hides_below: t().file("d", "x").dir("d").end()
        => Tree(&[("d", "dir 755 0:0 @978307200.000000000 trusted.overlay.opaque=y")]);

    // Duplicates: the last counts.
    file_twice: t().file("f", "x").file("f", "yy").end() => Tree(&[("f", "file \"yy\" x1")]);
    directory_twice: t().dir("d").file("d/f", "x").block(Block::new(b'5', "d").mode(0o700)).end() => Tree(&[("d", "dir 700"), ("d/f", "file")]);
    file_over_full_directory: t().dir("d").dir("d/e").file("d/e/f", "x").file("d", "y").end() => Tree(&[("d", "file \"y\"")]);
    directory_again_over_file: t().dir("d").file("d/f", "x").file("d", "y").dir("d").file("d/g", "z").end()
        => Tree(&[("d", "dir 755 0:0 @978307200.000000000 trusted.overlay.opaque=y"), ("d/g", "file \"z\"")]);

    // The format itself.
    empty_input: t() => Tree(&[]);
    only_the_end: t().end() => Tree(&[]);
    no_end: t().file("f", "x") => Tree(&[("f", "file \"x\"")]);
    text: t().raw(&[b'x'; 1024]) => Refused("not an octal number");
    bad_checksum: t().raw(&{ let mut b = Block::new(b'0', "f").sealed(); b[0] = b'g'; b }).end() => Refused("checksum");
    cut_header: t().raw(&Block::new(b'0', "f").sealed()[..300]) => Refused("cut off");
    cut_data: t().block(Block::new(b'0', "f").size(1000)).raw(&[b'x'; 600]) => Refused("cut off");
    nested_archive: t().with_data(&mut Block::new(b'0', "in.tar"), &t().file("../victim", "x").end().0).file("f", "x").end()
        => Tree(&[("f", "file \"x\" x1"), ("in.tar", "file \"../victim")]);
    no_padding: t().block(Block::new(b'0', "f").size(1)).raw(b"x") => Tree(&[("f", "file \"x\"")]);
    cut_padding: t().block(Block::new(b'0', "f").size(1)).raw(b"x\0\0") => Refused("cut off");
    pax_without_entry: t().pax(&[("path", b"x")]).end() => Refused("cut off");
    header_after_a_zero_block: t().file("f", "x").raw(&[0; 512]).file("g", "y").end() => Refused("follows a zero block");
    after_the_end: t().file("f", "x").end().file("../victim", "y").raw(b"garbage") => Tree(&[("f", "file \"x\"")]);
    pax_size_differs: t().pax(&[("size", b"1024")]).block(Block::new(b'0', "f").size(0)).raw(&Block::new(b'0', "smuggled").sealed()).raw(&[b'x'; 512]).end()
        => Tree(&[("f", "file \"smuggled")]);
    directory_with_data: t().block(Block::new(b'5', "d").size(512)).raw(&Block::new(b'0', "smuggled").sealed()).end() => Refused("has data");
    symlink_with_data: t().block(Block::new(b'2', "l").link("x").size(512)).raw(&[0; 512]).end() => Refused("has data");
    pax_and_gnu_path: t().pax(&[("path", b"a")]).gnu(b'L', "b").file("c", "x").end() => Refused("twice");
    two_pax_headers: t().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("c", "x").end() => Refused("two extension headers");
    two_long_names: t().gnu(b'L', "a").gnu(b'L', "b").file("c", "x").end() => Refused("two extension headers");
    global_path: t().with_data(&mut Block::new(b'g', "g"), b"10 path=x\n").file("c", "x").end() => Refused("global header");
    global_size: t().with_data(&mut Block::new(b'g', "g"), b"13 size=1024\n").file("c", "x").end() => Refused("global header");
    global_comment: t().with_data(&mut Block::new(b'g', "g"), b"13 comment=x\n").file("c", "x").end() => Tree(&[("c", "file")]);
    slash_file: t().block(&Block::new(b'0', "d/")).end() => Refused("ends in a slash");
    old_slash_directory: t().block(&Block::new(0, "d/")).end() => Tree(&[("d", "dir")]);
    unknown_type: t().block(&Block::new(b'Z', "x")).end() => Refused("unsupported type 'Z'");
    multi_volume: t().block(&Block::new(b'M', "x")).end() => Refused("unsupported type 'M'");
    negative_size: t().block(Block::new(b'0', "f").text(124, &[0xff; 12])).end() => Refused("negative");
    huge_size: t().block(Block::new(b'0', "f").text(124, &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])).end() => Refused("a file's size");
    bad_octal: t().block(Block::new(b'0', "f").text(124, b"0000000009\0 ")).end() => Refused("not an octal number");
    pax_bad_length: t().with_data(&mut Block::new(b'x', "p"), b"99 path=x\n").file("f", "x").end() => Refused("bad record");
    pax_length_zero: t().with_data(&mut Block::new(b'x', "p"), b"0 path=x\n").file("f", "x").end() => Refused("bad record");
    pax_no_newline: t().with_data(&mut Block::new(b'x', "p"), b"9 path=xx").file("f", "x").end() => Refused("bad record");
    pax_no_equals: t().with_data(&mut Block::new(b'x', "p"), b"8 pathx\n").file("f", "x").end() => Refused("without '='");
    pax_plus_size: t().pax(&[("size", b"+1")]).file("f", "x").end() => Refused("not a number");
    pax_empty_value: t().pax(&[("path", b""), ("size", b"")]).file("f", "x").end() => Tree(&[("f", "file \"x\"")]);
    pax_last_counts: t().pax(&[("path", b"a"), ("path", b"b")]).file("f", "x").end() => Tree(&[("b", "file \"x\"")]);
    long_name_limit: t().gnu(b'L', &"x/".repeat(2100)).file("f", "x").end() => Refused("path's length");
    name_too_long_for_the_disk: t().gnu(b'L', &"x".repeat(300)).file("f", "x").end() => Refused("File name too long");
    extension_limit: t().block(Block::new(b'x', "p").size((1 << 20) + 1)).end() => Refused("more than 1048576");
    xattr_value_limit: t().pax(&[("SCHILY.xattr.user.x", &[b'x'; 65537])]).file("f", "x").end() => Refused("65536");
    xattr_name_limit: t().pax(&[(&format!("SCHILY.xattr.user.{}", "x".repeat(255)), b"")]).file("f", "x").end() => Refused("255");

    // Sparse files.
    sparse_overlap: t().pax(&sparse_1_0("8", &[])).with_data(&mut Block::new(b'0', "f"), &padded("2\n0\n4\n2\n4\n")).end() => Refused("overlap");
    sparse_outside: t().pax(&sparse_1_0("3", &[])).with_data(&mut Block::new(b'0', "f"), &padded("1\n0\n4\n")).end() => Refused("overlap or leave");
    sparse_more_data_than_map: t().pax(&sparse_1_0("8", &[])).with_data(&mut Block::new(b'0', "f"), &[padded("1\n0\n4\n"), b"12345678".to_vec()].concat()).end() => Refused("speaks of 4 bytes");
    sparse_bomb_map: t().pax(&sparse_1_0("8", &[])).with_data(&mut Block::new(b'0', "f"), &padded("99999999999\n")).end() => Refused("sparse map's length");
    sparse_petabyte: t().pax(&sparse_1_0("1125899906842624", &[])).with_data(&mut Block::new(b'0', "f"), &padded("0\n")).end() => Refused("sparse file's size");
    sparse_without_newline: t().pax(&sparse_1_0("8", &[])).with_data(&mut Block::new(b'0', "f"), &[b'1'; 512]).end() => Refused("too long");
    sparse_map_longer_than_data: t().pax(&sparse_1_0("8", &[])).with_data(&mut Block::new(b'0', "f"), b"").end() => Refused("longer than the entry");
    sparse_unpaired: t().pax(&[("GNU.sparse.size", b"8"), ("GNU.sparse.numbytes", b"1")]).file("f", "x").end() => Refused("pair up");
    sparse_directory: t().pax(&[("GNU.sparse.size", b"8"), ("GNU.sparse.map", b"0,0")]).dir("d").end() => Refused("is sparse");
    sparse_1_0_file: t().pax(&sparse_1_0("6", &[])).with_data(&mut Block::new(b'0', "GNUSparseFile.1/f"), &[padded("1\n4\n2\n"), b"xy".to_vec()].concat()).end()
        => Tree(&[("real", "file \"\\0\\0\\0\\0xy\" x1")]);
    sparse_0_1_file: t().pax(&[("GNU.sparse.size", b"6"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"4,2")]).file("f", "xy").end()
        => Tree(&[("f", "file \"\\0\\0\\0\\0xy\" x1")]);
    sparse_0_0_file: t().pax(&[("GNU.sparse.size", b"6"), ("GNU.sparse.numblocks", b"2"), ("GNU.sparse.offset", b"1"), ("GNU.sparse.numbytes", b"1"), ("GNU.sparse.offset", b"4"), ("GNU.sparse.numbytes", b"1")]).file("f", "xy").end()
        => Tree(&[("f", "file \"\\0x\\0\\0y\\0\" x1")]);
}

fn padded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(512, 0);
    bytes
}

fn sparse_1_0<'a>(size: &'a str, more: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    let fixed: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"real"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    fixed.into_iter().chain(more.iter().copied()).collect()
}

/// Unpacks what aims at the canary and must land in the layer; the description of `path` there. The `CANARY` of
/// `path` is the canary's path below the layer's root.
fn landed(tar: Tar, path: &str) -> String {
    let scene = Scene::new();
    let chain = scene.run(&[Tar(aimed(&tar.0, &scene))]).unwrap();
    let inside = scene.canary().display().to_string();
    describe(&chain.dirs()[0].join(path.replace("CANARY", inside.trim_start_matches('/'))))
}

#[test]
fn an_absolute_name_is_below_the_root() {
    assert!(landed(t().file("CANARY/victim", "x").end(), "CANARY/victim").starts_with("file \"x\""));
}

#[test]
fn a_symlink_to_the_canary_leads_into_the_layer() {
    let tar = t().symlink("l", "CANARY").file("l/victim", "x").end();
    assert!(landed(tar, "CANARY/victim").starts_with("file \"x\""));
}

#[test]
fn a_whiteout_through_a_symlink_removes_nothing_outside() {
    let tar = t().symlink("l", "CANARY").file("l/.wh.victim", "").end();
    assert!(landed(tar, "CANARY/victim").starts_with("c 0:0"));
}

#[test]
fn a_hard_link_to_a_symlink_is_replaced_not_followed() {
    let tar = t().symlink("s", "CANARY/victim").link("l", "s").file("l", "x").end();
    assert!(landed(tar, "l").starts_with("file \"x\" x1"));
}

#[test]
fn attributes_of_a_symlink_are_its_own() {
    let attributes: [(&str, &[u8]); 2] = [("SCHILY.xattr.user.x", b"1"), ("SCHILY.xattr.trusted.y", b"2")];
    let described = landed(t().pax(&attributes).symlink("l", "CANARY/victim").end(), "l");
    assert!(described.starts_with("-> /") && described.ends_with(" trusted.y=2"), "{described}");
}

#[test]
fn the_number_of_attributes_is_limited() {
    let names: Vec<String> = (0..129).map(|n| format!("SCHILY.xattr.user.x{n}")).collect();
    let records = |count: usize| names[..count].iter().map(|name| (name.as_str(), &b""[..])).collect::<Vec<_>>();
    check("128", t().pax(&records(128)).symlink("f", "x").end(), Tree(&[("f", "-> x")]));
    check("129", t().pax(&records(129)).symlink("f", "x").end(), Refused("more than 128"));
}

#[test]
fn depth_is_limited_also_through_symlinks() {
    let deep = "d/".repeat(600);
    let through = t()
        .gnu(b'K', deep.trim_end_matches('/'))
        .symlink("l", "x")
        .gnu(b'L', &format!("l/{deep}f"))
        .file("f", "x")
        .end();
    check("through a symlink", through, Refused("1024 components"));
    let written = t().gnu(b'L', &"d/".repeat(1025)).dir("d").end();
    check("as written", written, Refused("1024 components"));
    let scene = Scene::new();
    scene.run(&[t().gnu(b'L', &"d/".repeat(1024)).dir("d").end()]).unwrap();
}
