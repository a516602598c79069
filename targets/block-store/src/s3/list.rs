//! Listing a bucket: all pages, or an error.

use super::{S3Store, timestamp};
use crate::contract::{ErrorKind, Key, ObjectInfo, Operation, StoreError};

impl S3Store {
    /// Every object below `prefix` and behind `after`.
    pub(super) async fn list_all(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket);
            let request = request.prefix(format!("{}{prefix}", self.prefix)).set_continuation_token(token.clone());
            let start = after.filter(|_| token.is_none()).map(|after| format!("{}{after}", self.prefix));
            let page = self.request(Operation::List, prefix, 0, request.set_start_after(start).send()).await?;
            for object in page.contents() {
                let Some(name) = object.key().and_then(|name| name.strip_prefix(&self.prefix)) else { continue };
                let Ok(key) = Key::new(name) else { continue };
                let size = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                found.push(ObjectInfo { key, size, modified: timestamp(object.last_modified()) });
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            let next = page.next_continuation_token().map(str::to_owned);
            if next.is_none() || next == token {
                // Going on would loop, stopping would pass a part for the whole.
                let error = self.error(ErrorKind::Other, Operation::List, prefix);
                return Err(error.because("the server announced another page and did not say which"));
            }
            token = next;
        }
        // Behind `after` and in order is what servers promise; a merge of listings needs to be sure.
        found.retain(|info| after.is_none_or(|after| info.key.as_str() > after));
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}
