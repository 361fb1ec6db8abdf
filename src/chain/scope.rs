// SPDX-License-Identifier: Apache-2.0

//! Per-connection state, keyed by type, with transactional updates and cleanup on drop.
//!
//! An element stores values of a private type, so only that element can access them.
//! 1. The lane owns the bottom [`Frame`]. Dropping it drops all values in reverse order of
//!    insertion.
//! 2. A Request works on a new frame on top. On commit its values replace those below, in place. If
//!    the frame is dropped for any reason, the values below are unchanged: a failed refresh leaves
//!    the previous state.
//! 3. A Close works on the bottom frame: values it takes are gone even if the Close fails later.
//! 4. A value inserted into a frame that has ended is dropped immediately.
//!
//! Frames nest: an element that tries two alternatives can open one frame for each.

use std::{
    any::{Any, TypeId, type_name},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Handle to the values of a connection. Cheap to clone; reads fall through to the frames below.
///
/// ```
/// use nsm::chain::Frame;
///
/// struct Port(&'static str);
///
/// let bottom = Frame::bottom();
/// let scope = bottom.scope();
/// scope.insert(Port("nsm-1"));
/// assert_eq!(scope.get::<Port>().map(|port| port.0), Some("nsm-1"));
/// drop(bottom);
/// assert!(scope.get::<Port>().is_none(), "the values go with the frame that owns them");
/// ```
#[derive(Clone)]
pub struct Scope(Arc<Slots>);

/// Owner of the values inserted through its scope.
#[must_use = "a frame that is dropped takes its values with it"]
pub struct Frame(Scope);

struct Slots {
    below: Option<Scope>,
    open: Mutex<Option<Vec<Slot>>>, // in order of insertion; none: ended
}

struct Slot {
    key: TypeId,
    name: &'static str,
    value: Option<Arc<dyn Any + Send + Sync>>, // none: taken, hides the value below
}

impl Frame {
    /// The bottom frame of a connection.
    pub fn bottom() -> Self {
        Self(Scope::over(None))
    }

    /// The scope through which a call accesses this frame.
    pub fn scope(&self) -> Scope {
        self.0.clone()
    }

    /// Applies the changes to the frame below. Replaced values are dropped in reverse order of
    /// insertion.
    pub fn commit(self) {
        if let Some(below) = &self.0.0.below {
            let replaced = self.0.end().into_iter().filter_map(|slot| below.put(slot));
            drop_last_first(replaced.collect());
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        drop_last_first(self.0.end());
    }
}

impl Scope {
    fn over(below: Option<Scope>) -> Self {
        Self(Arc::new(Slots { below, open: Mutex::new(Some(Vec::new())) }))
    }

    /// Opens a frame on top of this scope.
    pub fn frame(&self) -> Frame {
        Frame(Scope::over(Some(self.clone())))
    }

    /// Inserts a value, replacing one of the same type.
    pub fn insert<T: Any + Send + Sync>(&self, value: T) {
        drop(self.put(Slot::of::<T>(Some(Arc::new(value)))));
    }

    /// Gets the value of a type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.find(TypeId::of::<T>())?.downcast().ok()
    }

    /// Removes a value. On an upper frame the value below is only hidden until commit drops it.
    pub fn take<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let value = self.get()?;
        drop(self.put(Slot::of::<T>(None)));
        Some(value)
    }

    /// Type names and addresses of the values of this frame, in order of insertion. For tests and
    /// `Debug`.
    pub fn contents(&self) -> Vec<(&'static str, usize)> {
        self.lock()
            .iter()
            .flatten()
            .filter_map(|slot| Some((slot.name, Arc::as_ptr(slot.value.as_ref()?).addr())))
            .collect()
    }

    /// Whether values that are inserted stay.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    fn find(&self, key: TypeId) -> Option<Arc<dyn Any + Send + Sync>> {
        if let Some(slot) = self.lock().iter().flatten().find(|slot| slot.key == key) {
            return slot.value.clone();
        }
        self.0.below.as_ref()?.find(key)
    }

    /// Stores a slot and returns the replaced one, so that it is dropped after the lock is
    /// released: its drop may use the scope.
    fn put(&self, slot: Slot) -> Option<Slot> {
        let mut open = self.lock();
        let Some(slots) = open.as_mut() else {
            return Some(slot);
        };
        let at = slots.iter().position(|old| old.key == slot.key);
        match (at, slot.value.is_none() && self.0.below.is_none()) {
            (Some(at), true) => Some(slots.remove(at)),
            (Some(at), false) => Some(std::mem::replace(&mut slots[at], slot)),
            (None, true) => None,
            (None, false) => {
                slots.push(slot);
                None
            }
        }
    }

    fn end(&self) -> Vec<Slot> {
        self.lock().take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Slot>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn of<T: Any>(value: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        Self { key: TypeId::of::<T>(), name: type_name::<T>(), value }
    }
}

fn drop_last_first(mut slots: Vec<Slot>) {
    while slots.pop().is_some() {}
}

/// The scope of a call above `begin`: it stores nothing.
impl Default for Scope {
    fn default() -> Self {
        Self(Arc::new(Slots { below: None, open: Mutex::new(None) }))
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.contents().into_iter().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Log = Arc<Mutex<Vec<&'static str>>>;
    struct Lease(Log, &'static str);
    struct Port(Log, &'static str);
    impl Drop for Lease {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(self.1);
        }
    }
    impl Drop for Port {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(self.1);
        }
    }

    fn established(log: &Log) -> Frame {
        let bottom = Frame::bottom();
        let first = bottom.scope().frame();
        first.scope().insert(Lease(log.clone(), "lease"));
        first.scope().insert(Port(log.clone(), "port"));
        first.commit();
        bottom
    }

    #[test]
    fn the_end_drops_in_reverse_order_of_insertion() {
        let log = Log::default();
        drop(established(&log));
        assert_eq!(*log.lock().unwrap(), ["port", "lease"]);
    }

    #[test]
    fn a_failed_refresh_leaves_the_former_state() {
        let log = Log::default();
        let bottom = established(&log);
        let before = bottom.scope().contents();
        let refresh = bottom.scope().frame();
        refresh.scope().insert(Lease(log.clone(), "new lease"));
        assert!(refresh.scope().take::<Port>().is_some());
        assert!(refresh.scope().get::<Port>().is_none());
        drop(refresh);
        assert_eq!(*log.lock().unwrap(), ["new lease"]);
        assert_eq!(bottom.scope().contents(), before);
        assert!(bottom.scope().get::<Port>().is_some());
    }

    #[test]
    fn a_refresh_drops_the_replaced_value_and_keeps_its_place() {
        let log = Log::default();
        let bottom = established(&log);
        let refresh = bottom.scope().frame();
        refresh.scope().insert(Lease(log.clone(), "new lease"));
        refresh.commit();
        assert_eq!(*log.lock().unwrap(), ["lease"]);
        drop(bottom);
        assert_eq!(*log.lock().unwrap(), ["lease", "port", "new lease"]);
    }

    #[test]
    fn values_taken_by_a_close_are_dropped_at_once() {
        let log = Log::default();
        let bottom = established(&log);
        drop(bottom.scope().take::<Port>());
        assert_eq!(*log.lock().unwrap(), ["port"]);
    }

    #[test]
    fn a_value_that_comes_too_late_is_dropped_at_once() {
        let log = Log::default();
        let bottom = established(&log);
        let straggler = bottom.scope();
        drop(bottom);
        straggler.insert(Port(log.clone(), "late"));
        assert_eq!(*log.lock().unwrap(), ["port", "lease", "late"]);
    }

    #[test]
    fn the_values_of_a_try_that_failed_are_not_those_of_the_call() {
        let log = Log::default();
        let bottom = Frame::bottom();
        let call = bottom.scope().frame();
        let first = call.scope().frame();
        first.scope().insert(Port(log.clone(), "first try"));
        drop(first);
        let second = call.scope().frame();
        second.scope().insert(Lease(log.clone(), "second try"));
        second.commit();
        call.commit();
        assert!(bottom.scope().get::<Port>().is_none());
        assert!(bottom.scope().get::<Lease>().is_some());
    }
}
