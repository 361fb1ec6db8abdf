// SPDX-License-Identifier: Apache-2.0

//! Compares entries with a filter, field by field; an empty field of the filter matches everything.

use nsm::api::pb::nsp::v1::{
    Conduit, Stream, Target, Trench, Vip,
    target::{Status, Type},
};

pub(super) fn trench(filter: Option<&Trench>, is: Option<&Trench>) -> bool {
    filter.is_none_or(|filter| is.is_some_and(|is| name(&filter.name, &is.name)))
}

pub(super) fn conduit(filter: Option<&Conduit>, is: Option<&Conduit>) -> bool {
    filter.is_none_or(|filter| {
        is.is_some_and(|is| {
            name(&filter.name, &is.name) && trench(filter.trench.as_ref(), is.trench.as_ref())
        })
    })
}

pub(super) fn vip(filter: &Vip, is: &Vip) -> bool {
    name(&filter.name, &is.name) && trench(filter.trench.as_ref(), is.trench.as_ref())
}

/// The type must be the same: its zero value is a type, too.
pub(super) fn target(filter: &Target, is: &Target) -> bool {
    let kind = |target: &Target| Type::try_from(target.r#type);
    let status = filter.status == Status::Any as i32 || filter.status == is.status;
    status && kind(filter) == kind(is) && stream(filter.stream.as_ref(), is.stream.as_ref())
}

fn stream(filter: Option<&Stream>, is: Option<&Stream>) -> bool {
    filter.is_none_or(|filter| {
        is.is_some_and(|is| {
            name(&filter.name, &is.name) && conduit(filter.conduit.as_ref(), is.conduit.as_ref())
        })
    })
}

fn name(filter: &str, is: &str) -> bool {
    filter.is_empty() || filter == is
}
