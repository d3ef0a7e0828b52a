//! Values of options: how they are read, and what was meant by a wrong one.

use std::path::Path;

use crate::{
    config::{near::unknown, time::milliseconds},
    query::{near::nearest, view::By},
    sink::text::Symbols,
    source::kernel::{backends::Backend, sizes},
    tui::{Theme, views::ViewId},
};

/// One of several values, or what suits best here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<T>(pub Option<T>);

const AUTO: &str = "auto";

/// Other names of groupings, as one talks of them.
const GROUPINGS: [(&str, By); 4] = [
    ("host", By::Remote),
    ("hosts", By::Remote),
    ("socket", By::Flow),
    ("connection", By::Flow),
];

/// Reads a value by its name.
fn choice<T: Copy>(
    what: &str,
    text: &str,
    values: impl IntoIterator<Item = (&'static str, T)>,
) -> Result<Choice<T>, String> {
    if text == AUTO {
        return Ok(Choice(None));
    }
    let values: Vec<(&str, T)> = values.into_iter().collect();
    let names: Vec<&str> = [AUTO]
        .into_iter()
        .chain(values.iter().map(|it| it.0))
        .collect();
    let found = values.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, value)| Choice(Some(*value)))
        .ok_or_else(|| unknown(what, text, &names))
}

pub(super) fn theme(text: &str) -> Result<Choice<Theme>, String> {
    use strum::IntoEnumIterator as _;
    choice("theme", text, Theme::iter().map(|it| (it.name(), it)))
}

pub(super) fn symbols(text: &str) -> Result<Choice<Symbols>, String> {
    use strum::IntoEnumIterator as _;
    choice("set", text, Symbols::iter().map(|it| (it.name(), it)))
}

pub(super) fn backend(text: &str) -> Result<Choice<Backend>, String> {
    let choices = [Backend::Fexit, Backend::Kprobe, Backend::Tracepoint];
    choice("backend", text, choices.map(|it| (it.name(), it)))
}

pub(super) fn view(text: &str) -> Result<ViewId, String> {
    let names = ViewId::ALL.map(ViewId::name);
    text.parse().map_err(|_| unknown("view", text, &names))
}

/// Reads a grouping by its name, by that of its view on the screen, or by another.
pub(super) fn grouping(text: &str) -> Result<By, String> {
    let wanted = text.to_lowercase();
    let named = |by: &By| [by.name(), by.def().view].contains(&wanted.as_str());
    let other = || GROUPINGS.iter().find(|(name, _)| *name == wanted);
    let found = By::ALL.into_iter().find(named);
    found.or_else(|| Some(other()?.1)).ok_or_else(|| {
        let others = GROUPINGS.iter().map(|(name, _)| *name);
        let all = By::ALL
            .into_iter()
            .flat_map(|by| [by.name(), by.def().view]);
        let all: Vec<&str> = all.chain(others).collect();
        match nearest(text, &all) {
            Some(_) => unknown("grouping", text, &all),
            None => unknown("grouping", text, &By::ALL.map(By::name)),
        }
    })
}

/// Reads the name of an interface. Whether it exists turns out later, unless it looks like a time:
/// `-i` means that to other tools.
pub(super) fn interface(text: &str) -> Result<String, String> {
    interface_among(text, &is_interface)
}

fn interface_among(text: &str, exists: &dyn Fn(&str) -> bool) -> Result<String, String> {
    if milliseconds(text).is_ok() && !exists(text) {
        return Err(format!(
            "`{text}` is a time; did you mean `--interval {text}`?"
        ));
    }
    Ok(text.to_owned())
}

/// Whether this host has an interface of this name.
pub(super) fn is_interface(name: &str) -> bool {
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    is_name && Path::new("/sys/class/net").join(name).exists()
}

/// Reads a size of the ring buffer: `64K`, `8M`, `1G`.
pub(super) fn ring_size(text: &str) -> Result<u32, String> {
    // A ring buffer is a whole number of pages, some of which are larger than the least size.
    let least = sizes::page_bytes().max(*sizes::RING.start());
    let expected = || {
        format!(
            "expected a power of two from {}K to {}G, such as 8M",
            least >> 10,
            sizes::RING.end() >> 30
        )
    };
    let (number, shift) = match text.char_indices().next_back() {
        Some((end, 'K' | 'k')) => (&text[..end], 10),
        Some((end, 'M' | 'm')) => (&text[..end], 20),
        Some((end, 'G' | 'g')) => (&text[..end], 30),
        _ => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    let bytes = number
        .checked_mul(1 << shift)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or_else(expected)?;
    let fits = bytes.is_power_of_two() && (least..=*sizes::RING.end()).contains(&bytes);
    fits.then_some(bytes).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grouping_has_the_names_of_the_screen() {
        for by in By::ALL {
            assert_eq!(grouping(by.name()), Ok(by));
            assert_eq!(grouping(by.def().view), Ok(by));
            assert_eq!(grouping(by.def().title), Ok(by));
        }
        assert_eq!(grouping("host"), Ok(By::Remote));
        let error = grouping("remots").unwrap_err();
        assert!(error.contains("did you mean `remote`?"), "{error}");
        let error = grouping("hots").unwrap_err();
        assert!(error.contains("did you mean `host`?"), "{error}");
    }

    #[test]
    fn a_mistyped_value_gets_the_nearest() {
        assert_eq!(theme("auto"), Ok(Choice(None)));
        assert_eq!(theme("light"), Ok(Choice(Some(Theme::Light))));
        assert_eq!(symbols("ascii"), Ok(Choice(Some(Symbols::Ascii))));
        for (error, nearest) in [
            (theme("drak").unwrap_err(), "`dark`"),
            (symbols("acsii").unwrap_err(), "`ascii`"),
            (backend("kprobes").unwrap_err(), "`kprobe`"),
            (view("flwos").unwrap_err(), "`flows`"),
        ] {
            assert!(
                error.ends_with(&format!("did you mean {nearest}?")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_time_is_no_interface_unless_there_is_one_of_that_name() {
        let read = |text| interface_among(text, &|name| name == "500");
        assert_eq!(read("eth0").as_deref(), Ok("eth0"));
        assert_eq!(read("500").as_deref(), Ok("500"));
        for time in ["2s", "250ms", "100"] {
            let error = read(time).unwrap_err();
            assert!(error.contains(&format!("`--interval {time}`")), "{error}");
        }
        assert!(is_interface("lo") && !is_interface("..") && !is_interface(""));
    }

    #[test]
    fn the_ring_is_a_power_of_two_within_its_bounds() {
        assert_eq!(ring_size("8M"), Ok(8 << 20));
        assert_eq!(ring_size("65536"), Ok(64 << 10));
        assert_eq!(ring_size("1g"), Ok(1 << 30));
        for bad in [
            "",
            "M",
            "8MB",
            "-8M",
            "3M",
            "1K",
            "2G",
            "8.5M",
            "99999999999999999999G",
        ] {
            assert!(
                ring_size(bad).unwrap_err().contains("power of two"),
                "{bad}"
            );
        }
    }
}
