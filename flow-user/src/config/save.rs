//! Saves preferences: changes their lines of the file, and leaves all else as it is.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt as _};

use toml_edit::{Array, DocumentMut, Item, TableLike, Value, value};

use super::{
    Config, Loaded,
    file::{self, LARGEST, Unusable},
    place::Place,
    read::{COLUMNS, read},
    setting::{Kind, SETTINGS, Setting},
};
use crate::{
    sink::{
        file::{WriteError, write_atomically},
        text::escape,
    },
    tui::views::ViewId,
};

/// The reason why a preference is not saved. The file is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("the configuration has no path: set HOME or XDG_CONFIG_HOME")]
    NoHome,
    #[error("{place}: {problem}")]
    Unusable { place: Place, problem: Unusable },
    #[error("{place}: line {line}: `{COLUMNS}` is not a table; fix or remove that line")]
    NoTable { place: Place, line: usize },
    #[error("{place}: it would be larger than {kib} KiB", kib = LARGEST >> 10)]
    TooLarge { place: Place },
    #[error("cannot create the directory {folder}: {error}")]
    Folder { folder: String, error: io::Error },
    #[error("{0}")]
    Write(#[from] WriteError),
}

/// Writes the columns of a view to the file, and creates it if needed. Returns its path.
///
/// # Errors
/// The columns are not saved.
pub fn save_columns<'a>(
    place: Option<&'a Place>,
    view: ViewId,
    columns: &[&str],
) -> Result<&'a Place, SaveError> {
    update(place, |place, before, _| {
        with_columns(before, view, columns).ok_or_else(|| {
            let lines = before.lines().zip(1..);
            let mut lines = lines.filter(|(text, _)| text.trim_start().starts_with(COLUMNS));
            SaveError::NoTable {
                place: place.clone(),
                line: lines.next().map_or(1, |(_, line)| line),
            }
        })
    })
}

/// Writes the settings that keys change to the file, as far as they differ from it, and creates it
/// if needed. Returns its path and the names of those that it wrote.
///
/// # Errors
/// They are not saved.
pub fn save_settings<'a>(
    place: Option<&'a Place>,
    config: &Config,
) -> Result<(&'a Place, Vec<&'static str>), SaveError> {
    let mut names = Vec::new();
    let place = update(place, |_, before, loaded| {
        let changed = changed(&mut loaded.config.clone(), &mut config.clone());
        names.extend(changed.iter().map(|(name, _)| *name));
        Ok(with_settings(before, changed).unwrap_or_else(|| before.to_owned()))
    })?;
    Ok((place, names))
}

/// The settings that keys change, if they differ, with their new values.
fn changed(before: &mut Config, after: &mut Config) -> Vec<(&'static str, Value)> {
    let settings = SETTINGS.iter().filter(|setting| setting.has_key);
    let value = |setting: &Setting, config: &mut Config| match &setting.value {
        Kind::Flag(flag) => Value::from(*flag(config)),
        Kind::Text { show, .. } => Value::from(show(config)),
    };
    let mut changed = Vec::new();
    for setting in settings {
        let (old, new) = (value(setting, before), value(setting, after));
        if old.to_string() != new.to_string() {
            changed.push((setting.name, new));
        }
    }
    changed
}

/// Changes the file. It is read again for that: changes made meanwhile stay.
fn update(
    place: Option<&Place>,
    edit: impl FnOnce(&Place, &str, &Loaded) -> Result<String, SaveError>,
) -> Result<&Place, SaveError> {
    let place = place.ok_or(SaveError::NoHome)?;
    let unusable = |problem| SaveError::Unusable {
        place: place.clone(),
        problem,
    };
    let before = file::read(place).map_err(unusable)?.unwrap_or_default();
    // The same message as at the start.
    let loaded = read(&before).map_err(unusable)?;
    let after = edit(place, &before, &loaded)?;
    if after == before {
        return Ok(place);
    }
    if after.len() as u64 > LARGEST {
        return Err(SaveError::TooLarge {
            place: place.clone(),
        });
    }
    let refused = |problem| unusable(Unusable::Unreadable(problem));
    place
        .with_rights(|| write(place, &after))
        .map_err(refused)??;
    Ok(place)
}

fn write(place: &Place, text: &str) -> Result<(), SaveError> {
    if let Some(folder) = place.path().parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| SaveError::Folder {
            folder: escape(&folder.to_string_lossy()).into_owned(),
            error,
        })?;
    }
    Ok(write_atomically(place.path(), text.as_bytes())?)
}

/// The same text with other columns of a view. `None` if it is not TOML, or has no table of
/// columns.
fn with_columns(text: &str, view: ViewId, columns: &[&str]) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    let table = document
        .entry(COLUMNS)
        .or_insert_with(toml_edit::table)
        .as_table_like_mut()?;
    let columns: Array = columns.iter().copied().collect();
    set(table, view.name(), Value::Array(columns));
    Some(document.to_string())
}

/// The same text with other settings. `None` if it is not TOML.
fn with_settings(text: &str, settings: Vec<(&str, Value)>) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    for (name, value) in settings {
        set(document.as_table_mut(), name, value);
    }
    Some(document.to_string())
}

fn set(table: &mut dyn TableLike, name: &str, mut new: Value) {
    match table.get_mut(name) {
        // A comment behind it stays.
        Some(Item::Value(old)) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        _ => {
            table.insert(name, value(new));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
        path::Path,
    };

    use super::*;
    use crate::{query::groups::By, tui::Theme};

    /// A file with this text, and what it says after columns were kept.
    fn kept(text: Option<&str>, view: ViewId, columns: &[&str]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/flow/config.toml");
        if let Some(text) = text {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        }
        let place = Place::at(&path);
        let done = save_columns(Some(&place), view, columns);
        let after = fs::read_to_string(&path).unwrap_or_default();
        match done {
            Ok(_) => Ok(after),
            Err(error) => {
                assert_eq!(after, text.unwrap_or_default(), "untouched");
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn columns_are_kept_and_all_else_stays() {
        let columns = ["remote", "rx_rate"];
        let keep = |text| kept(text, ViewId::Group(By::Flow), &columns).unwrap();
        assert_eq!(keep(None), "[columns]\nflows = [\"remote\", \"rx_rate\"]\n");
        let before = "\
# mine
view = 'flows' # first

[columns] # of mine
# these
flows = [\"pid\"] # for now
users = [ \"user\" ]
[keys]
unknown = 1
";
        let after = before.replace("[\"pid\"]", "[\"remote\", \"rx_rate\"]");
        assert_eq!(keep(Some(before)), after);
        // Again the same: nothing grows.
        assert_eq!(keep(Some(&after)), after);
        let dotted = keep(Some("columns.flows = ['pid']\ncolumns.users = ['user']\n"));
        assert_eq!(
            dotted,
            "columns.flows = [\"remote\", \"rx_rate\"]\ncolumns.users = ['user']\n"
        );
        let inline = keep(Some("columns = { users = ['user'] }\nview = 'flows'\n"));
        assert!(inline.contains("view = 'flows'"), "{inline}");
        for text in [
            before,
            "",
            "view = 'flows'",
            &dotted,
            &inline,
            "[columns.flows]\nx = 1",
        ] {
            let read = read(&keep(Some(text))).unwrap();
            let table = &read.config.screen.tables[ViewId::Group(By::Flow).index()];
            let names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
            assert_eq!(names, columns, "{text}");
        }
    }

    #[test]
    fn settings_that_differ_are_kept_and_all_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::at(&folder.path().join("flow/config.toml"));
        let mut config = Config::default();
        let keep = |config: &Config| {
            let (place, names) = save_settings(Some(&place), config).unwrap();
            let text = fs::read_to_string(place.path()).unwrap_or_default();
            (names, text)
        };
        assert_eq!(keep(&config), (Vec::new(), String::new()));
        config.screen.theme = Some(Theme::Light);
        config.screen.compact = true;
        // The command line's, not a key's.
        config.mouse = false;
        let text = "theme = \"light\"\ncompact = true\n".to_owned();
        assert_eq!(keep(&config), (vec!["theme", "compact"], text.clone()));
        assert_eq!(keep(&config), (Vec::new(), text));
        let mine = "# mine\ntheme = 'dark' # dim\nfuture = 1\n\n# c\n[columns]\nflows = ['pid']\n";
        fs::write(place.path(), mine).unwrap();
        let (names, text) = keep(&config);
        assert_eq!(names, ["theme", "compact"]);
        let expected = mine.replace("'dark'", "\"light\"");
        let expected = expected.replace("future = 1\n", "future = 1\ncompact = true\n");
        assert_eq!(text, expected);
        fs::write(place.path(), "theme = ").unwrap();
        assert!(save_settings(Some(&place), &config).is_err());
        assert_eq!(fs::read_to_string(place.path()).unwrap(), "theme = ");
    }

    #[test]
    fn a_file_that_cannot_be_mended_is_left_alone() {
        let keep = |text: &str| kept(Some(text), ViewId::Group(By::Flow), &["pid"]).unwrap_err();
        assert!(keep("view = ").contains("line 1 is not TOML"));
        assert!(keep("\n columns = 1\n").contains("line 2: `columns` is not a table"));
        let full = format!("#{}", "x".repeat((64 << 10) - 2));
        assert!(keep(&full).contains("larger than 64 KiB"));
        let none = save_columns(None, ViewId::Group(By::Flow), &["pid"]).unwrap_err();
        assert!(none.to_string().contains("HOME"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let place = Place::at(&folder.path().join("file/flow/config.toml"));
        let error = save_columns(Some(&place), ViewId::Group(By::Flow), &["pid"]).unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
        let nowhere = Place::at(Path::new("/proc/x/config.toml"));
        assert!(save_columns(Some(&nowhere), ViewId::Group(By::Flow), &["pid"]).is_err());
    }

    #[test]
    fn under_sudo_the_file_is_the_user_s_and_a_trap_of_theirs_is_none() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let place = Place::with_rights_of(&folder.path().join("new/flow/config.toml"), 65_534);
        save_columns(Some(&place), ViewId::Group(By::Flow), &["pid"]).unwrap();
        for made in ["new", "new/flow", "new/flow/config.toml"] {
            let made = fs::metadata(folder.path().join(made)).unwrap();
            assert_eq!((made.uid(), made.gid()), (65_534, 65_534));
        }
        // A link to what only root may touch.
        let secret = folder.path().join("secret");
        fs::write(&secret, "x = 1\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let trap = folder.path().join("trap.toml");
        symlink(&secret, &trap).unwrap();
        let place = Place::with_rights_of(&trap, 65_534);
        let error = save_columns(Some(&place), ViewId::Group(By::Flow), &["pid"]).unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
        assert_eq!(fs::read(&secret).unwrap(), b"x = 1\n");
    }
}
