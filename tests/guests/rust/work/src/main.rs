//! What is measured: files and computing. It also runs natively, which is what a guest is compared with.
//!
//! ```text
//! work files DIR [big|small]    twice 64 MiB written and read in pieces of 64 KiB; 2000 small files made, read, listed and removed
//! work cpu [TIMES]              a hash, planets, JSON
//! work tail FILE TEXT           appends in pieces, and says what the file is then
//! work copy FROM TO             reads all of one file, writes all of another
//! work exit CODE, work panic    ends that way
//! work idle FILE                writes and reads a file, says "idle", and waits
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::process;
use std::time::Duration;

use sha2::{Digest, Sha256};

const PIECE: usize = 64 << 10;
const PIECES: usize = 1024;
const SMALL: usize = 2000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["files", dir] => big(dir).and_then(|bytes| Ok(bytes + small(dir)?)).map(|sum| println!("{sum}")),
        ["files", dir, "big"] => big(dir).map(|sum| println!("{sum}")),
        ["files", dir, "small"] => small(dir).map(|sum| println!("{sum}")),
        ["cpu"] => Ok(cpu(1)),
        ["cpu", times] => Ok(cpu(times.parse().unwrap())),
        ["tail", file, text] => tail(file, text),
        ["copy", from, to] => copy(from, to),
        ["exit", code] => process::exit(code.parse().unwrap()),
        ["panic"] => panic!("told to"),
        ["idle", file] => idle(file),
        _ => panic!("work: there is no work such as {args:?}"),
    };
    if let Err(error) = done {
        eprintln!("work: {error}");
        process::exit(1);
    }
}

fn big(dir: &str) -> io::Result<u64> {
    let piece: Vec<u8> = (0..PIECE).map(|i| (i * 31 + 7) as u8).collect();
    let mut sum = 0;
    for n in 0..2 {
        let name = format!("{dir}/big{n}");
        let mut file = File::create(&name)?;
        for _ in 0..PIECES {
            file.write_all(&piece)?;
        }
        drop(file);
        let mut file = File::open(&name)?;
        let mut back = vec![0; PIECE];
        loop {
            let read = file.read(&mut back)?;
            if read == 0 {
                break;
            }
            sum += read as u64;
        }
        fs::remove_file(&name)?;
    }
    assert_eq!(sum, 2 * (PIECE * PIECES) as u64);
    Ok(sum)
}

fn small(dir: &str) -> io::Result<u64> {
    let name = |i: usize| format!("{dir}/small{i}");
    for i in 0..SMALL {
        fs::write(name(i), format!("the content of file {i}\n"))?;
    }
    let mut sum = 0;
    for i in 0..SMALL {
        sum += fs::read(name(i))?.len() as u64;
    }
    assert!(fs::read_dir(dir)?.count() >= SMALL);
    for i in 0..SMALL {
        fs::remove_file(name(i))?;
    }
    Ok(sum)
}

fn cpu(times: u32) {
    let mut hash = Sha256::new();
    let block = vec![7; 1 << 20];
    for _ in 0..64 * times {
        hash.update(&block);
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{hash} {:.6} {}", planets(2_000_000 * times), json(40 * times));
}

/// Five bodies that attract each other.
fn planets(steps: u32) -> f64 {
    let mut bodies = [
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 39.47],
        [4.84, -1.16, -0.10, 0.60, 2.81, -0.02, 0.037],
        [8.34, 4.12, -0.4, -1.01, 1.82, 0.008, 0.011],
        [12.89, -15.11, -0.22, 1.08, 0.86, -0.01, 0.0017],
        [15.37, -25.9, 0.179, 0.979, 0.594, -0.034, 0.002],
    ];
    for _ in 0..steps {
        for i in 0..5 {
            for j in i + 1..5 {
                let apart: [f64; 3] = std::array::from_fn(|k| bodies[i][k] - bodies[j][k]);
                let square = apart.iter().map(|d| d * d).sum::<f64>() + 1e-9;
                let pull = 0.001 / (square * square.sqrt());
                let masses = (bodies[i][6], bodies[j][6]);
                for k in 0..3 {
                    bodies[i][k + 3] -= apart[k] * masses.1 * pull;
                    bodies[j][k + 3] += apart[k] * masses.0 * pull;
                }
            }
        }
        for body in &mut bodies {
            for k in 0..3 {
                body[k] += 0.001 * body[k + 3];
            }
        }
    }
    bodies.iter().map(|body| body[0]).sum()
}

fn json(times: u32) -> usize {
    let item = |i: u32| serde_json::json!({"id": i, "name": format!("item {i}"), "third": f64::from(i) / 3.0});
    let document = serde_json::Value::from((0..2000).map(item).collect::<Vec<_>>());
    (0..times)
        .map(|_| {
            let text = document.to_string();
            let back: serde_json::Value = serde_json::from_str(&text).unwrap();
            text.len() + back.as_array().unwrap().len()
        })
        .sum()
}

fn tail(name: &str, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(name)?;
    for piece in text.as_bytes().chunks(3) {
        file.write_all(piece)?;
    }
    print!("{}", fs::read_to_string(name)?);
    Ok(())
}

fn copy(from: &str, to: &str) -> io::Result<()> {
    let mut content = Vec::new();
    File::open(from)?.read_to_end(&mut content)?;
    fs::write(to, &content)
}

fn idle(name: &str) -> io::Result<()> {
    fs::write(name, vec![b'x'; 1 << 20])?;
    assert_eq!(fs::read(name)?.len(), 1 << 20);
    println!("idle");
    std::thread::sleep(Duration::from_secs(1000));
    Ok(())
}
