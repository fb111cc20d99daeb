//! Writes a classic BPF program from its end to its start.
//!
//! Jumps of classic BPF go forward only, so whatever is jumped to is written first and every target is known
//! when a jump is made. A conditional jump reaches 255 instructions; where a target is further away a stepping
//! stone is put right behind the jump: a copy of the target when that is a mere `ret`, else a long jump.
//! Nothing ever falls into a stone, because every block ends in a jump or a `ret`.

use std::collections::HashMap;

use crate::sys::seccomp::Instruction;

/// `BPF_LD | BPF_W | BPF_ABS`
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`
const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;

/// How far a conditional jump may go, less the two stones that may come between.
const REACH: usize = 255 - 2;

/// A comparison of the accumulator with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// `BPF_JMP | BPF_JEQ | BPF_K`
    Equal = 0x15,
    /// `BPF_JMP | BPF_JGT | BPF_K`
    Greater = 0x25,
    /// `BPF_JMP | BPF_JGE | BPF_K`
    AtLeast = 0x35,
}

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// The program so far, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    returns: HashMap<u32, Label>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// How many instructions a jump written now has to skip to come to `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - 1 - target.0
    }

    /// A place that returns `action`.
    pub(super) fn ret(&mut self, action: u32) -> Label {
        match self.returns.get(&action) {
            Some(label) if self.distance(*label) < REACH => *label,
            _ => {
                let label = self.push(RETURN, 0, 0, action);
                self.returns.insert(action, label);
                label
            }
        }
    }

    /// A place within reach that leads to `target`.
    fn near(&mut self, target: Label) -> Label {
        if self.distance(target) <= REACH {
            return target;
        }
        match self.reversed[target.0] {
            Instruction { code: RETURN, k, .. } => self.ret(k),
            _ => {
                let distance = self.distance(target) as u32;
                self.push(JUMP, 0, 0, distance)
            }
        }
    }

    /// Compares the accumulator with `k` and goes to `yes` or `no`.
    pub(super) fn branch(&mut self, test: Test, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        let no = self.near(no);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        self.push(test as u16, jt as u8, jf as u8, k)
    }

    /// Keeps only the bits `mask` of the accumulator, then goes on with what was written last.
    pub(super) fn and(&mut self, mask: u32) -> Label {
        self.push(AND, 0, 0, mask)
    }

    /// Loads the word at `offset` of `seccomp_data`, then goes on with what was written last.
    pub(super) fn load(&mut self, offset: u32) -> Label {
        self.push(LOAD, 0, 0, offset)
    }

    /// The program in running order.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }
}
