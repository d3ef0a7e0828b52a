//! Questions to a snapshot: filter language, grouping, sorting, columns. Pure functions.

pub mod baseline;
pub mod columns;
pub(crate) mod entry;
pub mod filter;
pub mod graph;
pub(crate) mod group;
pub mod groups;
pub mod history;
pub mod hostile;
pub mod human;
pub mod log;
pub mod members;
pub mod near;
pub(crate) mod nested;
pub(crate) mod order;
pub mod selection;
pub mod states;
pub mod table;
pub mod verdict;
pub mod view;

#[cfg(test)]
pub(crate) mod fixture;
