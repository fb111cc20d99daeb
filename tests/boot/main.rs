//! The Linux engine on a machine that has cgroup v2 only: the distribution's kernel, booted in qemu, with nothing but
//! busybox and our binary in its first file system.
//!
//! ```text
//! kernel.sh ──► vmlinuz, modules ──┐
//! bundles ─────────────────────────┼─► initramfs.sh ──► qemu ──► console: `ok …`, `not ok …`
//! wherry, init, check.sh, cases/* ─┘
//! ```
//!
//! One boot serves every test here; each test is one file of `cases`, run by a shell inside, and holds if every check
//! of the file does. The processor is emulated (TCG), for that it works the same everywhere, and no test depends
//! on how fast it is. There is no network and no disk.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod bundles;
mod machine;

use machine::machine;

/// A test for each theme: a file of `cases`.
macro_rules! themes {
    ($($test:ident: $theme:literal,)*) => {
        $(#[test]
        fn $test() {
            machine().holds($theme);
        })*

        #[test]
        fn every_case_is_a_test() {
            machine().has_only(&[$($theme),*]);
        }
    };
}

themes! {
    a_life_leaves_nothing_behind: "lifecycle",
    limits_are_in_the_groups_files_and_change: "limits",
    who_eats_too_much_is_killed_and_it_is_told: "memory",
    a_bomb_of_forks_ends_at_its_limit: "pids",
    who_never_rests_is_held_back: "cpu",
    writing_to_a_device_is_held_back: "io",
    device_rules_deny_what_modes_allow: "devices",
    a_paused_container_stands_still: "freeze",
    a_further_process_joins_the_group: "exec",
    what_ran_away_is_killed_too: "kill",
    a_container_sees_its_group_as_the_root: "namespace",
    an_ordinary_user_has_limits_in_a_group_of_hers_only: "rootless",
    a_group_in_use_is_left_alone: "busy",
    a_root_that_cannot_be_pivoted_is_done_without: "nopivot",
    info_knows_the_version: "info",
}
