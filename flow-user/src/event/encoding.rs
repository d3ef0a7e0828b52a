//! How values are serialised for which serde has no form.

/// Paths of executables: text where they are, else their bytes.
pub mod path {
    use std::{
        ffi::OsString,
        os::unix::ffi::{OsStrExt as _, OsStringExt as _},
        path::PathBuf,
        sync::Arc,
    };

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Path {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub fn serialize<S: Serializer>(
        path: &Option<Arc<PathBuf>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let path = path.as_deref().map(|path| match path.to_str() {
            Some(text) => Path::Text(text.to_owned()),
            None => Path::Bytes(path.as_os_str().as_bytes().to_vec()),
        });
        path.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<PathBuf>>, D::Error> {
        let path = Option::<Path>::deserialize(deserializer)?;
        Ok(path.map(|path| {
            Arc::new(match path {
                Path::Text(text) => text.into(),
                Path::Bytes(bytes) => OsString::from_vec(bytes).into(),
            })
        }))
    }
}

/// Causes of loss, by their index.
pub mod cause {
    use flow_common::Loss;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(cause: &Loss, serializer: S) -> Result<S::Ok, S::Error> {
        (*cause as usize).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Loss, D::Error> {
        let index = usize::deserialize(deserializer)?;
        let cause = Loss::ALL.get(index).copied();
        cause.ok_or_else(|| D::Error::custom("no cause of loss has this index"))
    }
}
