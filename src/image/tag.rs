//! Giving a further name to an image.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Error, Result, Store, record};
use crate::oci::Digest;
use crate::reference::Reference;
use crate::state::ImageRow;

impl Store {
    /// Gives the name `target` to what `source`, a name or an id, means: to all platforms that a name holds. What had
    /// the name before stays, without it. The image's id.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<Digest> {
        let mut rows = self.rows_of(source)?;
        let mut platforms = Vec::new();
        // By its id, an image may be found by several names.
        rows.retain(|row| {
            let first = !platforms.contains(&row.platform);
            platforms.push(row.platform.clone());
            first
        });
        let Some(first) = rows.first() else { return Err(Error::not_found(source)) };
        let id = record::image_of(first)?.id;
        let unnamed: Vec<ImageRow> = rows.iter().filter(|row| record::is_nameless(row)).cloned().collect();
        let (name, now) = (target.to_string(), unix_ns());
        let named: Vec<ImageRow> =
            rows.into_iter().map(|row| ImageRow { name: name.clone(), pulled_unix_ns: now, ..row }).collect();
        self.db.images().put_all(&named, &unnamed, record::dangling_name)?;
        Ok(id)
    }
}

/// Now, in nanoseconds since 1970.
pub(super) fn unix_ns() -> i64 {
    // A clock before 1970 or after 2262 is wrong anyway.
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| since.as_nanos().try_into().ok()).unwrap_or(0)
}
