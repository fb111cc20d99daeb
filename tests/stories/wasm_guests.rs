//! Real programs, by language and version of WASI, run by wherry.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use crate::support::guests::{self, Target};
use crate::support::{Running, Wherry};

const ORDERS: &str = r#"[
  {"customer": "Ada", "count": 3, "cents": 1999},
  {"customer": "Grace", "count": 1, "cents": 250},
  {"customer": "Ada", "count": 1, "cents": 5},
  {"customer": "Zoë", "count": 2, "cents": 125}
]
"#;
const SAID: &str = "\
4 orders, sha256 ebfbd7ebd31e0383bd1630008f5f91c67f50e448aa13476622ee86659246f5ca
Ada                60.02
Grace               2.50
Zoë                 2.50";
const REPORT: &str =
    r#"[{"cents":6002,"customer":"Ada"},{"cents":250,"customer":"Grace"},{"cents":250,"customer":"Zoë"}]"#;

/// The same program in each language reads a file of a granted directory, and writes another.
fn reports(guest: PathBuf) {
    let guest = guest.display().to_string();
    let wherry = Wherry::new();
    let folder = wherry.folder("orders");
    fs::write(folder.join("orders.json"), ORDERS).unwrap();
    let bind = format!("{}:/data", folder.display());
    let run = ["run", "--rm", "-v", &bind, &guest, "/data/orders.json"];
    assert_eq!(wherry.ok(run.iter().copied().chain(["/data/report.json"])), SAID);
    assert_eq!(fs::read_to_string(folder.join("report.json")).unwrap().trim_end(), REPORT);
    // It says what is wrong, and nothing of the host's is to be had.
    wherry.call(run).expect(1).complains(&["usage: report"]);
    wherry.call(["run", "--rm", "-v", &bind, &guest, "/etc/passwd", "/data/passwd"]).expect(1).complains(&["report:"]);
    assert!(!folder.join("passwd").exists());
}

#[test]
fn rust_on_preview_1() {
    reports(guests::rust("report", Target::P1));
}

#[test]
fn rust_on_0_2() {
    reports(guests::rust("report", Target::P2));
}

#[test]
fn go_on_preview_1() {
    reports(guests::go("report"));
}

#[test]
fn python_on_0_2() {
    reports(guests::python("report"));
}

#[test]
fn javascript_on_0_2() {
    reports(guests::js("report"));
}

/// A large C program: a database in a granted directory, which the host's SQLite takes.
#[test]
fn sqlite_on_preview_1() {
    let guest = guests::c("sqlite", Target::P1).display().to_string();
    let wherry = Wherry::new();
    let folder = wherry.folder("db");
    let bind = format!("{}:/db", folder.display());
    let said = wherry.ok(["run", "--rm", "-v", &bind, &guest, "/db/items.db"]);
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "20000|9990000|item 00000|item 19999",
            "501,1501,2501,3501,4501",
            "10000",
            "10020",
            "956722026041",
            r#"["item 00000","item 00007"]"#,
            "ok"
        ]
    );
    let db = rusqlite::Connection::open(folder.join("items.db")).unwrap();
    let answer = |sql| db.query_row::<String, _, _>(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(answer("pragma integrity_check"), "ok");
    assert_eq!(answer("select count(*) || ' ' || sum(price) from item"), "10020 2510000");
    // No directory for it: nothing is opened, and nothing is left.
    wherry.call(["run", "--rm", &guest, "/db/items.db"]).expect(1).complains(&["unable to open database file"]);
    let read_only = format!("{bind}:ro");
    let refused = wherry.call(["run", "--rm", "-v", &read_only, &guest, "/db/items.db"]).expect(1);
    assert!(refused.stderr.contains("sqlite: "), "{refused}");
}

#[test]
fn c_on_preview_1_and_0_2() {
    let wherry = Wherry::new();
    for target in [Target::P1, Target::P2] {
        let guest = guests::c("probe", target).display().to_string();
        assert!(wherry.ok(["run", "--rm", &guest, "args", "one", "two words"]).ends_with("one\ntwo words"));
        assert_eq!(wherry.ok(["run", "--rm", "-e", "A=b", &guest, "env"]), "A=b");
    }
}

#[test]
fn a_command_of_0_3_has_its_arguments_environment_streams_files_and_exit_code() {
    let guest = guests::rust("probe3", Target::P3).display().to_string();
    let wherry = Wherry::new();
    assert!(wherry.ok(["run", "--rm", &guest, "args", "one", "two words"]).ends_with("one\ntwo words"));
    assert_eq!(wherry.ok(["run", "--rm", "-e", "A=b", &guest, "env"]), "A=b");
    let output = wherry.call(["run", "--rm", &guest, "both"]).expect(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("to stdout\n", "to stderr\n"));
    wherry.call(["run", "--rm", &guest, "exit", "7"]).expect(7);
    wherry.call(["run", "--rm", &guest, "fail"]).expect(1);
    wherry.call(["run", "--rm", &guest, "trap"]).expect(134).complains(&["unreachable"]);

    let mut running = Running::start(wherry.command(["run", "--rm", "-i", &guest, "cat"]).stdin(Stdio::piped()));
    running.child.stdin.take().unwrap().write_all(b"to the guest").unwrap();
    running.finish().expect(0).says("to the guest");

    let folder = wherry.folder("shared");
    let bind = format!("{}:/mnt", folder.display());
    assert_eq!(wherry.ok(["run", "--rm", "-v", &bind, &guest, "write", "/mnt/new", "by 0.3"]), "ok");
    assert_eq!(fs::read_to_string(folder.join("new")).unwrap(), "by 0.3");
    assert_eq!(wherry.ok(["run", "--rm", "-v", &bind, &guest, "read", "/mnt/new"]), "by 0.3");
    assert_eq!(wherry.ok(["run", "--rm", "-v", &bind, &guest, "list", "/mnt"]), "new");
}
