//! Signals by name (signal(7)).

/// The signals of Linux by name, for the processors that we know (signal(7)).
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first and the last real-time signal that a program may use.
pub const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The number of a signal: a number, or a name with or without `SIG`, `RTMIN+n` and `RTMAX-n` included.
pub fn number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (first, last) = (*REAL_TIME.start(), *REAL_TIME.end());
    let real_time = || match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(first),
        (_, Some("")) => Some(last),
        (Some(plus), _) => Some(first + plus.strip_prefix('+')?.parse::<i32>().ok()?),
        (_, Some(minus)) => Some(last - minus.strip_prefix('-')?.parse::<i32>().ok()?),
        _ => None,
    };
    let named = || SIGNALS.iter().find(|(name, _)| *name == bare).map(|(_, number)| *number);
    text.parse().ok().or_else(named).or_else(real_time).filter(|number| (1..=last).contains(number))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals_by_name_and_number() {
        for (text, expected) in [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGUSR1", 10),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for bad in ["", "0", "65", "-9", "SIGNOPE", "RTMIN+99", "RTMIN3"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
