//! Listings compared with naive ones, and the other answers by example.

mod listing;
mod views;

use crate::answer::answer;
use crate::freeing::Freeing;
use crate::question::Question;
use crate::table::Rows;

/// Asks rows in memory.
pub(crate) fn ask<Q: Question>(rows: &dyn Rows, question: Q) -> Q::Reply {
    let reply = answer(rows, &question.into(), Some(&Freeing::ALL)).expect("rows in memory");
    Q::from_reply(reply).expect("a reply to this question")
}
