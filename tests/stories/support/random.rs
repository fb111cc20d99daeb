//! Numbers without pattern, the same in every run, and how many points in time are tried.

/// The numbers.
pub struct Random(u64);

impl Random {
    /// A row of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }
}

/// How many points are tried: `usual`, unless `WHERRY_STORY_KILLS` says another number.
pub fn points(usual: usize) -> usize {
    std::env::var("WHERRY_STORY_KILLS").map_or(usual, |text| text.parse().expect("a number of kills"))
}
