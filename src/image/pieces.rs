//! One blob in pieces, and how many connections are worth while: pure decisions.

/// Where one connection ends and another may begin. Large enough that a request for each costs nothing.
pub const PIECE_BYTES: u64 = 8 << 20;
/// A smaller blob is fetched over one connection.
pub const SPLIT_FROM: u64 = 32 << 20;
/// Connections for one blob. Content networks that slow down single connections allow this many everywhere.
pub const CONNECTIONS: usize = 4;

/// The looks, one after the other, at which a connection must be too slow before there is another, and which that
/// one has to show its worth.
const LOOKS: u32 = 3;
/// A further connection must bring so much more, in percent, to be followed by yet another.
const WORTH_PERCENT: u64 = 120;

/// The pieces of a blob, in order.
#[derive(Debug)]
pub(super) struct Pieces {
    size: u64,
    length: u64,
    all: Vec<Piece>,
    /// The first that is not complete.
    front: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Piece {
    /// Bytes that are there, from the piece's beginning.
    there: u64,
    taken: bool,
}

impl Pieces {
    /// The pieces of a blob of which so much is there; a single one, if it is not to be split.
    pub fn new(size: u64, written: u64, split: bool) -> Self {
        let length = if split && size >= SPLIT_FROM { PIECE_BYTES } else { size.max(1) };
        let count = usize::try_from(size.div_ceil(length)).unwrap_or(usize::MAX);
        let mut pieces = Self { size, length, all: vec![Piece::default(); count], front: 0 };
        for at in 0..count {
            pieces.all[at].there = written.saturating_sub(pieces.start(at)).min(pieces.end(at) - pieces.start(at));
        }
        pieces.advance();
        pieces
    }

    fn start(&self, at: usize) -> u64 {
        at as u64 * self.length
    }

    fn end(&self, at: usize) -> u64 {
        self.size.min(self.start(at) + self.length)
    }

    /// What is missing of a piece.
    pub fn missing(&self, at: usize) -> std::ops::Range<u64> {
        self.start(at) + self.all[at].there..self.end(at)
    }

    /// Takes the first piece that nobody fetches.
    pub fn take(&mut self) -> Option<usize> {
        let free = |at: &usize| !self.all[*at].taken && !self.missing(*at).is_empty();
        let first = (self.front..self.all.len()).find(free)?;
        self.all[first].taken = true;
        Some(first)
    }

    /// Takes this piece, if nobody fetches it and nothing of it is there: a stream can run on into it.
    pub fn run_on(&mut self, at: usize) -> bool {
        match self.all.get_mut(at) {
            Some(piece) if !piece.taken && piece.there == 0 => {
                piece.taken = true;
                true
            }
            _ => false,
        }
    }

    /// So many bytes of a piece have come.
    pub fn came(&mut self, at: usize, bytes: u64) {
        self.all[at].there += bytes;
        self.advance();
    }

    /// Nobody fetches the piece any more.
    pub fn release(&mut self, at: usize) {
        self.all[at].taken = false;
    }

    fn advance(&mut self) {
        while self.front < self.all.len() && self.missing(self.front).is_empty() {
            self.front += 1;
        }
    }

    /// Whether the piece is the blob's last.
    pub fn is_last(&self, at: usize) -> bool {
        at + 1 == self.all.len()
    }

    /// How much is there without a hole.
    pub fn in_front(&self) -> u64 {
        self.all.get(self.front).map_or(self.size, |piece| self.start(self.front) + piece.there)
    }

    /// How much is there in all.
    pub fn received(&self) -> u64 {
        self.start(self.front).min(self.size) + self.all[self.front..].iter().map(|piece| piece.there).sum::<u64>()
    }

    /// How many pieces nobody has begun.
    pub fn untouched(&self) -> usize {
        self.all[self.front..].iter().filter(|piece| !piece.taken && piece.there == 0).count()
    }
}

/// Decides, look by look, whether one more connection is worth a try: where each is slowed down for itself, several
/// are several times as fast; where the line is full or the reader is slow, they are not, and there is only one.
#[derive(Debug)]
pub(super) struct Tuner {
    connections: usize,
    /// Looks in a row at which more could have been used.
    wanting: u32,
    /// Bytes of these looks.
    bytes: u64,
    /// What as many looks brought before the last connection was added.
    before: Option<u64>,
    settled: bool,
}

impl Tuner {
    pub fn new(split: bool) -> Self {
        Self { connections: 1, wanting: 0, bytes: 0, before: None, settled: !split }
    }

    /// No more connections: one was refused, or broke.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// What came since the last look; whether it was too little; how many pieces are left to be begun. Whether to open
    /// another connection.
    pub fn look(&mut self, bytes: u64, wanting: bool, untouched: usize) -> bool {
        if self.settled || untouched < 2 {
            return false;
        }
        if !wanting {
            (self.wanting, self.bytes) = (0, 0);
            return false;
        }
        (self.wanting, self.bytes) = (self.wanting + 1, self.bytes + bytes);
        if self.wanting < LOOKS {
            return false;
        }
        let brought = std::mem::take(&mut self.bytes);
        self.wanting = 0;
        let worth =
            self.before.is_none_or(|before| brought.saturating_mul(100) >= before.saturating_mul(WORTH_PERCENT));
        if !worth || self.connections == CONNECTIONS {
            self.settled = true;
            return false;
        }
        self.before = Some(brought);
        self.connections += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_small_blob_is_one_piece() {
        let mut pieces = Pieces::new(SPLIT_FROM - 1, 5, true);
        assert_eq!(pieces.take(), Some(0));
        assert_eq!(pieces.missing(0), 5..SPLIT_FROM - 1);
        assert_eq!((pieces.take(), pieces.is_last(0)), (None, true));
        let empty = Pieces::new(0, 0, true);
        assert_eq!((empty.in_front(), empty.received(), empty.untouched()), (0, 0, 0));
        assert_eq!(Pieces::new(1 << 40, 0, false).all.len(), 1);
    }

    #[test]
    fn pieces_are_taken_in_order_and_counted_without_holes() {
        let size = 33 * MIB;
        let mut pieces = Pieces::new(size, 10 * MIB, true);
        assert_eq!((pieces.in_front(), pieces.all.len()), (10 * MIB, 5));
        assert_eq!((pieces.take(), pieces.take()), (Some(1), Some(2)));
        assert_eq!((pieces.missing(1), pieces.missing(2)), (10 * MIB..16 * MIB, 16 * MIB..24 * MIB));
        assert_eq!(pieces.untouched(), 2);
        pieces.came(2, 8 * MIB);
        assert_eq!((pieces.in_front(), pieces.received()), (10 * MIB, 18 * MIB));
        assert!(!pieces.run_on(2), "it is there");
        pieces.came(1, 6 * MIB);
        assert_eq!((pieces.in_front(), pieces.received()), (24 * MIB, 24 * MIB));
        assert!(pieces.run_on(3) && !pieces.run_on(3) && !pieces.run_on(5));
        pieces.came(3, MIB);
        pieces.release(3);
        assert_eq!(pieces.take(), Some(3), "what a connection left is taken up where it ended");
        assert_eq!(pieces.missing(3), 25 * MIB..32 * MIB);
        pieces.came(3, 7 * MIB);
        assert_eq!(pieces.take(), Some(4));
        pieces.came(4, MIB);
        assert_eq!((pieces.in_front(), pieces.received(), pieces.take()), (size, size, None));
    }

    fn opened(looks: impl IntoIterator<Item = (u64, bool)>) -> usize {
        let mut tuner = Tuner::new(true);
        looks.into_iter().filter(|(bytes, wanting)| tuner.look(*bytes, *wanting, 9)).count()
    }

    #[test]
    fn connections_are_added_while_each_brings_more() {
        assert_eq!(opened([(9, true); 2]), 0, "not at once");
        assert_eq!(opened([(9, false); 99]), 0, "the reader is slower");
        assert_eq!(opened((0..99).map(|n| (9, n % 3 != 0))), 0, "the reader is as fast");
        assert_eq!(opened([(9, true); 99]), 1, "the line is full: the second brings nothing");
        assert_eq!(opened((0..99).map(|n| (10 * (1 + n / 3), true))), CONNECTIONS - 1);
        let mut tuner = Tuner::new(true);
        tuner.settle();
        assert!(!(0..99).any(|_| tuner.look(9, true, 9)));
        assert!(!(0..99).any(|_| Tuner::new(true).look(9, true, 1)), "nothing is left to share");
    }
}
