//! Listings against naive ones, and the other answers by example.

mod listing;
mod views;
