//! Whether the user's locale has UTF-8.

use std::{
    env,
    ffi::{CStr, CString, OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    ptr,
};

/// Whether text in UTF-8 is what the user's locale expects. Where none is chosen, as in most
/// containers, the terminal is a modern one.
pub(super) fn is_utf8() -> bool {
    chosen(&|name| env::var_os(name)).is_none_or(|name| is_utf8_in(&name))
}

/// The locale for characters, by the rules of POSIX.
fn chosen(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<OsString> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set)
}

fn is_utf8_in(locale: &OsStr) -> bool {
    match codeset(locale) {
        Some(codeset) => names_utf8(&codeset),
        // It is not installed, so only its name tells: `en_US.UTF-8@euro`.
        None => {
            let name = locale.to_string_lossy();
            let codeset = name.split_once('.').map_or("", |(_, rest)| rest);
            names_utf8(codeset.split('@').next().unwrap_or_default())
        }
    }
}

fn names_utf8(codeset: &str) -> bool {
    let name = codeset.replace(['-', '_'], "");
    name.eq_ignore_ascii_case("utf8")
}

/// The character set of an installed locale.
fn codeset(locale: &OsStr) -> Option<String> {
    let name = CString::new(locale.as_bytes()).ok()?;
    // SAFETY: the name ends with a NUL, and no locale is given to be changed.
    let locale = unsafe { libc::newlocale(libc::LC_CTYPE_MASK, name.as_ptr(), ptr::null_mut()) };
    if locale.is_null() {
        return None;
    }
    // SAFETY: the locale is valid until it is freed.
    let codeset = unsafe { libc::nl_langinfo_l(libc::CODESET, locale) };
    let text = (!codeset.is_null()).then(|| {
        // SAFETY: it is a text that ends with a NUL, and lives as long as the locale.
        let text = unsafe { CStr::from_ptr(codeset) };
        text.to_string_lossy().into_owned()
    });
    // SAFETY: it was made above, and nothing refers to it any more.
    unsafe { libc::freelocale(locale) };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let chosen = |variables: &[(&str, &str)]| {
            chosen(&|name| {
                let mut variables = variables.iter();
                Some(variables.find(|it| it.0 == name)?.1.into())
            })
        };
        let (lang, all) = (("LANG", "C.UTF-8"), ("LC_ALL", "C"));
        assert_eq!(chosen(&[lang]).as_deref(), Some(OsStr::new("C.UTF-8")));
        assert_eq!(chosen(&[lang, all]).as_deref(), Some(OsStr::new("C")));
        let empty = ("LC_ALL", "");
        assert_eq!(
            chosen(&[lang, empty]).as_deref(),
            Some(OsStr::new("C.UTF-8"))
        );
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn a_locale_is_asked_or_named() {
        let is_utf8 = |name: &str| is_utf8_in(OsStr::new(name));
        assert!(!is_utf8("C") && !is_utf8("POSIX"));
        assert!(is_utf8("C.UTF-8"));
        // These are hardly installed anywhere.
        assert!(is_utf8("xx_YY.utf8@zz"));
        assert!(!is_utf8("xx_YY.ISO-8859-1") && !is_utf8("xx_YY"));
        assert!(!is_utf8("a\0b"));
    }
}
