// SPDX-License-Identifier: Apache-2.0
//! Since when a service is up or down, and its last error.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use tokio::sync::watch;

use super::Service;
use crate::proxy::log::timestamp;

/// The last change of a service, and its last error, which outlasts it. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Arc<Mutex<Past>>);

#[derive(Debug, Default)]
struct Past {
    up: Option<(bool, SystemTime)>,
    present: Option<String>,
    error: Option<(String, SystemTime)>,
}

impl History {
    /// Follows a state until it ends. `read` returns whether the service is up, and its error.
    pub(super) async fn follow<T>(
        self,
        mut state: watch::Receiver<T>,
        read: impl Fn(&T) -> (bool, Option<String>),
    ) {
        loop {
            let (up, error) = read(&state.borrow_and_update());
            self.note(up, error);
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    fn note(&self, up: bool, error: Option<String>) {
        let now = SystemTime::now();
        let mut past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if past.up.is_none_or(|(before, _)| before != up) {
            past.up = Some((up, now));
        }
        past.present.clone_from(&error);
        if let Some(error) = error
            && past.error.as_ref().is_none_or(|(before, _)| *before != error)
        {
            past.error = Some((error, now));
        }
    }

    /// The service at this moment.
    pub(super) fn service(&self, address: String, up: bool) -> Service {
        let past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = past.up.filter(|(before, _)| *before == up);
        let error = past.error.as_ref();
        Service {
            address,
            up,
            since: since.map(|(_, since)| timestamp(since)),
            error: past.present.clone(),
            last_error: error.map(|(error, _)| error.clone()),
            last_error_time: error.map(|(_, time)| timestamp(*time)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_outlasts_its_end() {
        let history = History::default();
        let (publish, state) = watch::channel((false, Some("refused".to_owned())));
        let before = history.service("ipam:7777".into(), false);
        assert_eq!((before.since, before.last_error), (None, None));
        let follow = tokio::spawn(history.clone().follow(state, |state| state.clone()));
        let noted = |up| history.service("ipam:7777".into(), up);
        let present = crate::testing::eventually(|| noted(false).error, |error| error.is_some()).await;
        assert_eq!(present, noted(false).last_error);
        assert!(noted(false).since.is_some() && noted(true).since.is_none());
        publish.send_replace((true, None));
        drop(publish);
        follow.await.unwrap();
        let now = noted(true);
        assert_eq!((now.error, now.last_error.as_deref()), (None, Some("refused")));
        assert!(now.since.is_some() && now.last_error_time.is_some());
    }
}
