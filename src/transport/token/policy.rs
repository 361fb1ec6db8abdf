// SPDX-License-Identifier: Apache-2.0

//! Decides whether the tokens of a path authorize a call: NSM's default policies, as numbered
//! rules.
//!
//! 1. `tokens_valid`: each segment has a JWT of three parts that can be decoded and is at most
//!    [`MAX_TOKEN`](super::MAX_TOKEN) bytes.
//! 2. `tokens_expired`: each token has an `exp`, and it is in the future. No allowance for clocks.
//! 3. `tokens_chained`: of each two neighbours, the `aud` array of the left contains the `sub` of
//!    the right.
//! 4. On a received path, `prev_token_signed`: there is a segment left of our own, and the
//!    certificate of the TLS client signed its token. On an answer, `next_token_signed`: the same
//!    of the segment right of our own, and the TLS server.
//!
//! Beyond NSM's policies, a received path names its client:
//!
//! 5. The token of segment 0 has a `sub`, a SPIFFE id: that of the client. The token left of our
//!    own has the `sub` of the TLS client.
//!
//! Signatures further away are not verified here: each hop verifies its neighbours. The client's id
//! is therefore as trustworthy as the hops between.

use std::time::{SystemTime, UNIX_EPOCH};

use super::claims::Claims;
use crate::{api::PathSegment, transport::identity::Peer};

/// The policy that refused a path, with the failing segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// Rule 1. The hop did not set its token, or set something else.
    #[error("no sufficient privileges: tokens_valid: segment {0} has no token of NSM")]
    Valid(usize),
    /// Rule 2. The hop did not refresh, or clocks differ.
    #[error("no sufficient privileges: tokens_expired: the token of segment {0} has expired")]
    Expired(usize),
    /// Rule 3. A hop was left out, or its token has another audience.
    #[error(
        "no sufficient privileges: tokens_chained: the token of segment {0} was not meant for the next segment"
    )]
    Chained(usize),
    /// Rule 4 on a received path. The caller signed with another key than that of its certificate,
    /// or has no segment.
    #[error(
        "no sufficient privileges: prev_token_signed: the caller `{0}` did not sign the token before ours"
    )]
    PreviousUnsigned(String),
    /// Rule 5. The caller signed a token in the name of another.
    #[error(
        "no sufficient privileges: prev_token_signed: the caller `{peer}` signed the token before ours as `{maker}`"
    )]
    PreviousForeign {
        /// SPIFFE id of the caller's certificate.
        peer: String,
        /// SPIFFE id in the token.
        maker: String,
    },
    /// Rule 4 on an answer. The peer signed with another key than that of its certificate, or has
    /// no segment.
    #[error("no sufficient privileges: next_token_signed: the peer `{0}` did not sign the token after ours")]
    NextUnsigned(String),
}

/// Verifies a received path up to our own segment, which is the last of `segments` and has its
/// token already. Returns the SPIFFE id of the client at segment 0.
///
/// # Errors
/// [`Denied`], with the first rule that does not hold.
pub fn verify_received(segments: &[PathSegment], peer: &Peer, now: SystemTime) -> Result<String, Denied> {
    let tokens = common(segments, now)?;
    let ([.., previous, _own], [.., caller, _]) = (segments, &*tokens) else {
        return Err(Denied::PreviousUnsigned(peer.id().to_owned()));
    };
    if !peer.signed(&previous.token) {
        return Err(Denied::PreviousUnsigned(peer.id().to_owned()));
    }
    let client = tokens[0].maker().ok_or(Denied::Valid(0))?;
    match caller.maker() {
        Some(maker) if maker == peer.id() => Ok(client.to_owned()),
        maker => {
            let maker = maker.unwrap_or_default().to_owned();
            Err(Denied::PreviousForeign { peer: peer.id().to_owned(), maker })
        }
    }
}

/// Verifies the whole path of an answer; our own segment has index `own`.
///
/// # Errors
/// [`Denied`], with the first rule that does not hold.
pub fn verify_answer(
    segments: &[PathSegment],
    own: usize,
    peer: &Peer,
    now: SystemTime,
) -> Result<(), Denied> {
    let _tokens = common(segments, now)?;
    match own.checked_add(1).and_then(|next| segments.get(next)) {
        Some(next) if peer.signed(&next.token) => Ok(()),
        _ => Err(Denied::NextUnsigned(peer.id().to_owned())),
    }
}

/// Rules 1 to 3; the claims of each token.
fn common(segments: &[PathSegment], now: SystemTime) -> Result<Vec<Claims>, Denied> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let tokens: Vec<Claims> = segments
        .iter()
        .enumerate()
        .map(|(index, segment)| Claims::decode(&segment.token).ok_or(Denied::Valid(index)))
        .collect::<Result<_, _>>()?;
    if let Some(index) = tokens.iter().position(|token| token.expiry().is_none_or(|expiry| now >= expiry)) {
        return Err(Denied::Expired(index));
    }
    match tokens.windows(2).position(|pair| !pair[0].leads_to(&pair[1])) {
        Some(index) => Err(Denied::Chained(index)),
        None => Ok(tokens),
    }
}
