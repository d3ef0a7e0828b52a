//! The right name for a wrong one.

/// Characters of a wrong name that are compared.
const LONGEST: usize = 40;

/// The nearest name, if one is near enough: a third of its letters may differ, at least two.
pub fn nearest<'a>(written: &str, names: &[&'a str]) -> Option<&'a str> {
    let written: String = written.chars().take(LONGEST).collect();
    let written = written.to_lowercase();
    let distance = |name: &&str| strsim::osa_distance(&written, name);
    let near = names.iter().min_by_key(|name| distance(name))?;
    let most = (near.chars().count() / 3).max(2);
    // Of a short name that would be all letters.
    let differs = distance(near);
    (differs <= most && differs < near.chars().count()).then_some(near)
}
