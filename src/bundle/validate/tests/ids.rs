//! Ids of containers.

use super::*;

#[test]
fn ids_are_names_of_files() {
    for good in ["a", "A0_+-.", "-", "...", &"f".repeat(64), &"x".repeat(MAX_ID_BYTES)] {
        assert_eq!(valid_id(good), Ok(()), "{good}");
    }
    for (bad, wanted) in [
        ("", "container id: is empty"),
        (".", r#"container id: "." names a directory"#),
        ("..", r#"container id: ".." names a directory"#),
        ("a/b", r#"container id: "a/b" has '/'; letters, digits and "_+-." may be used"#),
        ("a b", r#"container id: "a b" has ' '; letters, digits and "_+-." may be used"#),
        ("é", r#"container id: "é" has 'é'; letters, digits and "_+-." may be used"#),
        ("a\n", r#"container id: "a\n" has '\n'; letters, digits and "_+-." may be used"#),
        ("a\0", r#"container id: "a\0" has '\0'; letters, digits and "_+-." may be used"#),
        (&"x".repeat(MAX_ID_BYTES + 1), "container id: is longer than 200 bytes"),
    ] {
        assert_eq!(valid_id(bad).unwrap_err().to_string(), wanted);
    }
}
