// SPDX-License-Identifier: Apache-2.0

//! A backend over another one: a test replaces the methods that it is about.

use std::{future::Future, io};

use crate::{
    api::Family,
    kernel::{
        Backend, Observed, Op, Ours, Refusal, WrongSysctl,
        announce::Announcements,
        liveness::{self, Neighbours},
    },
};

/// A backend whose methods call those of another one, unless replaced.
pub(super) trait Over: Send + 'static {
    type Inner: Backend;

    fn inner(&mut self) -> &mut Self::Inner;

    fn dump(&mut self, ours: &Ours) -> impl Future<Output = Result<Observed, Refusal>> + Send {
        self.inner().dump(ours)
    }

    fn refresh(
        &mut self,
        ours: &Ours,
        observed: Observed,
    ) -> impl Future<Output = Result<Observed, Refusal>> + Send {
        drop(observed);
        Over::dump(self, ours)
    }

    fn apply(&mut self, ours: &Ours, op: &Op) -> impl Future<Output = Result<(), Refusal>> + Send {
        self.inner().apply(ours, op)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.inner().reopen()
    }
}

impl<T: Over> Backend for T {
    fn dump(&mut self, ours: &Ours) -> impl Future<Output = Result<Observed, Refusal>> + Send {
        Over::dump(self, ours)
    }

    fn refresh(
        &mut self,
        ours: &Ours,
        observed: Observed,
    ) -> impl Future<Output = Result<Observed, Refusal>> + Send {
        Over::refresh(self, ours, observed)
    }

    fn apply(&mut self, ours: &Ours, op: &Op) -> impl Future<Output = Result<(), Refusal>> + Send {
        Over::apply(self, ours, op)
    }

    fn wrong_sysctls(&mut self, ours: &Ours, families: &[Family]) -> Vec<WrongSysctl> {
        self.inner().wrong_sysctls(ours, families)
    }

    fn neighbours(&mut self, settings: Option<liveness::Settings>) -> io::Result<Box<dyn Neighbours>> {
        self.inner().neighbours(settings)
    }

    fn announcements(&mut self) -> io::Result<Box<dyn Announcements>> {
        self.inner().announcements()
    }

    fn changed(&mut self, ours: &Ours) -> impl Future<Output = ()> + Send {
        self.inner().changed(ours)
    }

    fn overtaken(&mut self, ours: &Ours) -> bool {
        self.inner().overtaken(ours)
    }

    fn reopen(&mut self) -> io::Result<()> {
        Over::reopen(self)
    }
}
