//! The room against the real kernel: layers of crafted archives, and what they unpack to.

pub(super) mod craft;
mod hostile;
mod layers;
mod oracle;
mod peers;
mod rootfs;
