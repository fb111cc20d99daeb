//! Builds a guest and prints where it is, for benches and people: `cargo run --example guest -- rust http2 p2`.

#[path = "../stories/support/guests.rs"]
mod guests;

use guests::Target;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let target = match words.get(2) {
        None | Some(&"p1") => Target::P1,
        Some(&"p2") => Target::P2,
        Some(&"p3") => Target::P3,
        Some(other) => panic!("no version of WASI is called {other}: p1, p2, p3"),
    };
    let path = match words[..] {
        ["rust", name, ..] => guests::rust(name, target),
        ["c", name, ..] => guests::c(name, target),
        ["go", name] => guests::go(name),
        ["python", name] => guests::python(name),
        ["js", name] => guests::js(name),
        _ => panic!("guest rust|c|go|python|js NAME [p1|p2|p3]"),
    };
    println!("{}", path.display());
}
