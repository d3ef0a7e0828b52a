//! Questions to a snapshot: filter language, grouping, sorting, columns. Pure functions.

pub mod columns;
pub mod filter;
mod group;
pub mod human;
pub mod names;
pub mod selection;
pub mod table;
pub mod view;

#[cfg(test)]
pub(crate) mod fixture;
