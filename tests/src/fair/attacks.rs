//! The attacks, a file each.

mod churn;
mod denials;
mod flows;
mod fragments;
mod idle;
mod senders;
mod unanswered;

use super::Attack;

pub const ALL: [Attack; 7] = [
    idle::ATTACK,
    unanswered::ATTACK,
    flows::ATTACK,
    denials::ATTACK,
    fragments::ATTACK,
    senders::ATTACK,
    churn::ATTACK,
];
