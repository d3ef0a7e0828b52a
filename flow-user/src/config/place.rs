//! The path of the configuration, and the user whose rights apply to it.

use std::{
    env,
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, User, geteuid, setfsgid, setfsuid};

use crate::sink::text::escape;

/// Its path in the directory of configurations.
const NAME: &str = "flow/config.toml";

/// The path of the configuration. There may be no file yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    sudo: Option<Account>,
}

/// A user with a home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub name: String,
    pub uid: Uid,
    pub gid: Gid,
    pub home: PathBuf,
}

impl Place {
    /// The user's: `$XDG_CONFIG_HOME/flow/config.toml`, else `~/.config/flow/config.toml`. Under
    /// sudo that is in the home directory of the invoking user. `None` without a home directory.
    pub fn of_user() -> Option<Self> {
        let account = |uid: Uid| User::from_uid(uid).ok().flatten().map(Account::from);
        Self::find(&|name| env::var_os(name), geteuid(), &account)
    }

    fn find(
        variable: &dyn Fn(&str) -> Option<OsString>,
        user: Uid,
        account: &dyn Fn(Uid) -> Option<Account>,
    ) -> Option<Self> {
        let number = |name| variable(name)?.to_str()?.parse().ok();
        let sudo = match number("SUDO_UID") {
            Some(uid) if user.is_root() && uid != 0 => account(Uid::from_raw(uid)),
            _ => None,
        };
        // The XDG specification says to ignore a relative path.
        let folder = |name| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = || match &sudo {
            Some(sudo) => Some(sudo.home.clone()),
            None => folder("HOME").or_else(|| account(user).map(|it| it.home)),
        };
        let folder = folder("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")))?;
        Some(Self {
            path: folder.join(NAME),
            sudo,
        })
    }

    /// A file outside of all home directories.
    #[cfg(test)]
    pub(super) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            sudo: None,
        }
    }

    /// The same, to be used with a user's rights.
    #[cfg(test)]
    pub(super) fn with_rights_of(path: &Path, user: u32) -> Self {
        let sudo = Account {
            name: format!("user{user}"),
            uid: Uid::from_raw(user),
            gid: Gid::from_raw(user),
            home: "/".into(),
        };
        Self {
            path: path.to_owned(),
            sudo: Some(sudo),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accesses the file. Under sudo this uses the rights of the invoking user: Flow reads and
    /// writes nothing that this user could not, and new files belong to this user.
    ///
    /// # Errors
    /// The rights cannot be taken.
    pub(super) fn with_rights<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        let rights = self.sudo.as_ref().map(Rights::take).transpose()?;
        let done = act();
        drop(rights);
        Ok(done)
    }
}

impl fmt::Display for Place {
    /// The escaped path, and under sudo the invoking user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string_lossy();
        write!(f, "{}", escape(&path))?;
        match &self.sudo {
            Some(Account { name, home, .. }) if self.path.starts_with(home) => {
                write!(
                    f,
                    " (in the home directory of {}, who ran sudo)",
                    escape(name)
                )
            }
            Some(Account { name, .. }) => {
                write!(f, " (with the rights of {}, who ran sudo)", escape(name))
            }
            None => Ok(()),
        }
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
            home: user.dir,
        }
    }
}

/// A user's rights on files, for this thread, until this is dropped.
struct Rights {
    uid: Uid,
    gid: Gid,
}

impl Rights {
    fn take(account: &Account) -> io::Result<Self> {
        // The group first: a user's rights do not permit changing it.
        let before = Self {
            gid: setfsgid(account.gid),
            uid: setfsuid(account.uid),
        };
        // Neither call reports failure; called with an invalid id, they return the current one.
        let nobody = u32::MAX;
        let holds = (
            setfsuid(Uid::from_raw(nobody)),
            setfsgid(Gid::from_raw(nobody)),
        );
        if holds == (account.uid, account.gid) {
            return Ok(before);
        }
        drop(before);
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("cannot act with the rights of {}", escape(&account.name)),
        ))
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        setfsuid(self.uid);
        setfsgid(self.gid);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };

    use super::*;

    fn account(uid: u32) -> Account {
        Account {
            name: format!("user{uid}"),
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(uid),
            home: format!("/home/user{uid}").into(),
        }
    }

    fn found(user: u32, variables: &[(&str, &str)]) -> Option<Place> {
        let variable = |name: &str| {
            let mut variables = variables.iter();
            let (_, value) = variables.find(|it| it.0 == name)?;
            Some(OsString::from(value))
        };
        let known = |uid: Uid| (uid.as_raw() != 7).then(|| account(uid.as_raw()));
        Place::find(&variable, Uid::from_raw(user), &known)
    }

    #[test]
    fn the_file_is_in_the_xdg_place_and_under_sudo_in_the_home_of_the_invoking_user() {
        let path = |user, variables: &[(&str, &str)]| {
            let place = found(user, variables)?;
            Some(place.path.to_string_lossy().into_owned())
        };
        let text = |path: &str| Some(path.to_owned());
        let home = ("HOME", "/home/a");
        let usual = text("/home/a/.config/flow/config.toml");
        let sudo = text("/home/user5/.config/flow/config.toml");
        let (xdg, relative) = (("XDG_CONFIG_HOME", "/x"), ("XDG_CONFIG_HOME", "x"));
        assert_eq!(path(5, &[home]), usual);
        assert_eq!(path(5, &[home, xdg]), text("/x/flow/config.toml"));
        assert_eq!(path(5, &[home, relative]), usual);
        assert_eq!(path(5, &[]), sudo);
        assert_eq!(path(5, &[("HOME", "a")]), sudo);
        assert_eq!(path(7, &[]), None);
        // Somebody else's SUDO_UID says nothing, nor do root's, one that is none, and a stranger's.
        assert_eq!(path(0, &[home, ("SUDO_UID", "5")]), sudo);
        assert_eq!(path(6, &[home, ("SUDO_UID", "5")]), usual);
        for uid in ["0", "", "x", "7", "-1", "99999999999"] {
            assert_eq!(path(0, &[home, ("SUDO_UID", uid)]), usual, "{uid}");
        }
    }

    #[test]
    fn the_invoking_user_is_named_under_sudo() {
        let sudo = ("SUDO_UID", "5");
        let text = found(0, &[sudo]).unwrap().to_string();
        assert!(text.ends_with("(in the home directory of user5, who ran sudo)"));
        let text = found(0, &[sudo, ("XDG_CONFIG_HOME", "/x\u{1b}")]).unwrap();
        assert_eq!(
            text.to_string(),
            "/x\\x1b/flow/config.toml (with the rights of user5, who ran sudo)"
        );
        assert!(!found(5, &[]).unwrap().to_string().contains("sudo"));
    }

    #[test]
    fn under_sudo_the_rights_are_those_of_the_invoking_user() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::with_rights_of(&folder.path().join("config.toml"), 65_534);
        if !geteuid().is_root() {
            assert!(place.with_rights(|| ()).is_err());
            return;
        }
        let secret = folder.path().join("secret");
        fs::write(&secret, "x").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let read = place.with_rights(|| fs::read(&secret)).unwrap();
        assert!(read.is_err(), "what only root may read");
        let written = place.with_rights(|| fs::write(place.path(), "x")).unwrap();
        written.unwrap();
        let owner = fs::metadata(place.path()).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (65_534, 65_534));
        fs::read(&secret).unwrap();
    }
}
