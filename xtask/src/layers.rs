//! The check of layers: no module imports from a higher layer, and no two modules of a folder
//! import each other.
//!
//! An import is a `use`, or a path in code, that begins with `crate`, `self`, `super` or a child
//! module. It counts as an import from the module that defines the item, even if a parent
//! re-exports it. Code that is compiled for tests only is ignored.
//!
//! - Top-level modules of `flow-user` and `flow-ebpf` are layers, and import only from lower ones.
//!   `docs/architecture.md` lists them in a table for each crate, the lowest first. A crate
//!   declares its layers in that order, or alphabetically.
//! - The modules of one folder import one another in one direction only, in every crate. An import
//!   between two folders counts where their paths diverge: `tui/draw/table.rs` from `tui/layout.rs`
//!   is `draw` from `layout`.
//! - A module and its parent may import each other's own items: a parent has what its children
//!   share.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, ImplItem, Item, ItemMod, Meta, TraitItem, UseTree,
    visit::{self, Visit},
};

use crate::tools::root;

/// The roots of the crates that are checked.
const CRATES: [&str; 5] = [
    USER,
    KERNEL_SIDE,
    "flow-common/src/lib.rs",
    "tests/src/lib.rs",
    "xtask/src/main.rs",
];

/// The crates whose top-level modules are layers, and the document that lists the layers.
const USER: &str = "flow-user/src/lib.rs";
const KERNEL_SIDE: &str = "flow-ebpf/src/main.rs";
const DOCUMENT: &str = "docs/architecture.md";

/// A path of modules from the crate's root.
type Name = Vec<String>;

/// One module of a crate.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// Items that it defines itself.
    items: HashSet<String>,
    /// Names that it imports, and their paths.
    imported: HashMap<String, Name>,
    /// Paths of its glob imports.
    globs: Vec<Name>,
    /// Paths in its code as written, with their lines.
    paths: Vec<(Name, usize)>,
}

type Crate = BTreeMap<Name, Module>;

/// An import between two modules of one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Import {
    folder: Name,
    from: String,
    to: String,
    /// File and line.
    place: String,
}

/// Checks all crates.
///
/// # Errors
/// When modules import each other, or from a higher layer, with both modules, file and line.
pub fn check() -> Result<()> {
    let document = fs::read_to_string(root().join(DOCUMENT));
    let document = document.with_context(|| format!("cannot read {DOCUMENT}"))?;
    let mut faults = Vec::new();
    for crate_root in CRATES {
        let Reader { modules, order, .. } = Reader::read(root(), Path::new(crate_root))?;
        let imports = imports(&resolve(modules));
        let layers = listed(&document, crate_root);
        if [USER, KERNEL_SIDE].contains(&crate_root) && !agrees(&layers, &order) {
            let (listed, declared) = (layers.join(", "), order.join(", "));
            faults.push(format!(
                "{DOCUMENT} lists the layers {listed}; {crate_root} declares {declared}"
            ));
        }
        faults.extend(check_imports(&imports, &layers));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Whether a crate declares its layers in this order, or alphabetically.
fn agrees(layers: &[String], declared: &[String]) -> bool {
    let mut sorted = layers.to_vec();
    sorted.sort_unstable();
    layers == declared || sorted == declared
}

/// The faults in the imports of a crate. `layers` are its layers, the lowest first.
fn check_imports(imports: &[Import], layers: &[String]) -> Vec<String> {
    let layer = |name: &str| layers.iter().position(|it| it == name);
    let mut faults = Vec::new();
    let mut folders: BTreeMap<&Name, Vec<&Import>> = BTreeMap::new();
    for import in imports {
        if import.folder.is_empty() && !layers.is_empty() {
            let Import {
                from, to, place, ..
            } = import;
            let fault = format!("{from} imports from {to}, a higher layer: {place}");
            if layer(from) < layer(to) && !faults.contains(&fault) {
                faults.push(fault);
            }
        } else {
            folders.entry(&import.folder).or_default().push(import);
        }
    }
    for (folder, mut imports) in folders {
        while let Some(cycle) = shortest_cycle(&imports) {
            let folder = match folder.as_slice() {
                [] => "the crate's root".to_owned(),
                names => names.join("::"),
            };
            let mut fault = format!("modules of {folder} import each other:");
            for Import {
                from, to, place, ..
            } in &cycle
            {
                fault.push_str(&format!("\n  {from} imports from {to}: {place}"));
            }
            faults.push(fault);
            let is_in = |it: &Import| cycle.iter().any(|of| of.from == it.from && of.to == it.to);
            imports.retain(|it| !is_in(it));
        }
    }
    faults
}

/// The imports of the shortest cycle, if any.
fn shortest_cycle<'a>(imports: &[&'a Import]) -> Option<Vec<&'a Import>> {
    let mut starts: Vec<&str> = imports.iter().map(|import| import.from.as_str()).collect();
    starts.dedup();
    let mut cycles: Vec<Vec<&Import>> = starts
        .into_iter()
        .filter_map(|start| path_back(imports, start))
        .collect();
    cycles.sort_by_key(Vec::len);
    cycles.into_iter().next()
}

/// The shortest path of imports from a module to itself.
fn path_back<'a>(imports: &[&'a Import], start: &str) -> Option<Vec<&'a Import>> {
    let mut reached: HashMap<&str, &Import> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(module) = queue.pop_front() {
        for import in imports.iter().filter(|import| import.from == module) {
            if !reached.contains_key(import.to.as_str()) {
                reached.insert(&import.to, import);
                queue.push_back(&import.to);
            }
        }
    }
    let mut path = vec![*reached.get(start)?];
    while path[0].from != start {
        path.insert(0, reached.get(path[0].from.as_str())?);
    }
    Some(path)
}

/// The layers of a crate, the lowest first: the modules in its table in the document. Empty without
/// a table.
fn listed(document: &str, crate_root: &str) -> Vec<String> {
    let folder = crate_root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let heading = format!("`{folder}`, ");
    let lines = document
        .lines()
        .skip_while(|line| !line.starts_with(&heading));
    let rows = lines.skip_while(|line| !line.starts_with("| `"));
    let rows = rows.take_while(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let names = names.map(|name| name.trim_end_matches('/').trim_end_matches(".rs"));
    names
        .filter(|name| *name != "main")
        .map(str::to_owned)
        .collect()
}

/// All imports between siblings.
fn imports(modules: &Crate) -> Vec<Import> {
    let mut imports = Vec::new();
    for (name, module) in modules {
        for (path, line) in &module.paths {
            let Some(target) = absolute(modules, name, path) else {
                continue;
            };
            let target = definer(modules, target, 0);
            let shared = name.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (name.get(shared), target.get(shared)) {
                imports.push(Import {
                    folder: name[..shared].to_vec(),
                    from: from.clone(),
                    to: to.clone(),
                    place: format!("{}:{line}", module.file.display()),
                });
            }
        }
    }
    imports
}

/// Converts a path as written in a module to one from the crate's root; `None` if it is outside of
/// the crate.
fn absolute(modules: &Crate, module: &[String], path: &[String]) -> Option<Name> {
    let mut base = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|it| it == "super") {
                base.pop()?;
                rest = &rest[1..];
            }
        }
        child => {
            let child = [module, &[child.to_owned()]].concat();
            modules.get(&child)?;
        }
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// The module that defines the item of an absolute path, through re-exports.
fn definer(modules: &Crate, path: Name, depth: usize) -> Name {
    let is_module = |&length: &usize| modules.contains_key(&path[..length]);
    let length = (0..=path.len()).take_while(is_module).last().unwrap_or(0);
    let (name, rest) = path.split_at(length);
    let (Some(module), [item, below @ ..]) = (modules.get(name), rest) else {
        return name.to_vec();
    };
    // Imports may be circular if a name has two meanings.
    if depth > 16 || module.items.contains(item) {
        return name.to_vec();
    }
    if let Some(source) = module.imported.get(item) {
        return definer(modules, [source.as_slice(), below].concat(), depth + 1);
    }
    let mut globs = module.globs.iter();
    let source = globs.find(|glob| {
        let source = modules.get(glob.as_slice());
        source.is_some_and(|it| it.items.contains(item) || it.imported.contains_key(item))
    });
    match source {
        Some(source) => definer(modules, [source, rest].concat(), depth + 1),
        None => name.to_vec(),
    }
}

/// Resolves imports, which requires that all modules have been read.
fn resolve(mut modules: Crate) -> Crate {
    let resolved: Vec<_> = modules
        .iter()
        .map(|(name, module)| {
            let absolute = |path: &Name| absolute(&modules, name, path);
            let imported = module.imported.iter();
            let imported: HashMap<String, Name> = imported
                .filter_map(|(name, path)| Some((name.clone(), absolute(path)?)))
                .collect();
            let globs: Vec<Name> = module.globs.iter().filter_map(absolute).collect();
            (imported, globs)
        })
        .collect();
    for (module, (imported, globs)) in modules.values_mut().zip(resolved) {
        module.imported = imported;
        module.globs = globs;
    }
    modules
}

/// Reads a crate's files.
#[derive(Default)]
struct Reader {
    /// The folder that file names are relative to.
    base: PathBuf,
    modules: Crate,
    /// The modules at the crate's top, in the order in which they are declared.
    order: Vec<String>,
}

impl Reader {
    /// Reads a crate.
    fn read(base: PathBuf, crate_root: &Path) -> Result<Self> {
        let mut reader = Self {
            base,
            ..Self::default()
        };
        let folder = crate_root.parent().unwrap_or(Path::new(""));
        reader.file(Vec::new(), crate_root, folder)?;
        Ok(reader)
    }

    /// Reads a module's file; its children are in `folder`.
    fn file(&mut self, name: Name, file: &Path, folder: &Path) -> Result<()> {
        let path = self.base.join(file);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        self.source(name, &text, file, folder)
    }

    fn source(&mut self, name: Name, text: &str, file: &Path, folder: &Path) -> Result<()> {
        let parsed =
            syn::parse_file(text).with_context(|| format!("cannot parse {}", file.display()))?;
        self.items(name, &parsed.items, file, folder)
    }

    fn items(&mut self, name: Name, items: &[Item], file: &Path, folder: &Path) -> Result<()> {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        let mut children = Vec::new();
        for item in items {
            Collector {
                module: &mut module,
                children: &mut children,
            }
            .visit_item(item);
        }
        self.modules.insert(name.clone(), module);
        for child in children {
            let identifier = child.ident.to_string();
            if name.is_empty() {
                self.order.push(identifier.clone());
            }
            let below = folder.join(&identifier);
            let child_name = [name.as_slice(), &[identifier]].concat();
            match &child.content {
                Some((_, items)) => self.items(child_name, items, file, &below)?,
                None => {
                    let beside = below.with_extension("rs");
                    let inside = below.join("mod.rs");
                    let file = match elsewhere(child) {
                        Some(path) => file.with_file_name(path),
                        None if self.base.join(&beside).exists() => beside,
                        None if self.base.join(&inside).exists() => inside,
                        None => bail!("neither {} nor {}", beside.display(), inside.display()),
                    };
                    self.file(child_name, &file, &below)?;
                }
            }
        }
        Ok(())
    }
}

/// The file that `#[path = "..."]` names.
fn elsewhere(module: &ItemMod) -> Option<String> {
    let path = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(text),
                ..
            }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    };
    module.attrs.iter().find_map(path)
}

/// Collects the items that a module defines, and all paths in it.
struct Collector<'a, 'ast> {
    module: &'a mut Module,
    children: &'a mut Vec<&'ast ItemMod>,
}

impl<'ast> Visit<'ast> for Collector<'_, 'ast> {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name) = match item {
            Item::Const(it) => (&it.attrs, Some(&it.ident)),
            Item::Enum(it) => (&it.attrs, Some(&it.ident)),
            Item::Fn(it) => (&it.attrs, Some(&it.sig.ident)),
            Item::Impl(it) => (&it.attrs, None),
            Item::Macro(it) => (&it.attrs, it.ident.as_ref()),
            Item::Mod(it) => (&it.attrs, None),
            Item::Static(it) => (&it.attrs, Some(&it.ident)),
            Item::Struct(it) => (&it.attrs, Some(&it.ident)),
            Item::Trait(it) => (&it.attrs, Some(&it.ident)),
            Item::Type(it) => (&it.attrs, Some(&it.ident)),
            Item::Union(it) => (&it.attrs, Some(&it.ident)),
            Item::Use(it) => (&it.attrs, None),
            _ => return visit::visit_item(self, item),
        };
        if is_for_tests(attributes) {
            return;
        }
        self.module.items.extend(name.map(ToString::to_string));
        match item {
            Item::Mod(module) => self.children.push(module),
            Item::Use(it) if it.leading_colon.is_none() => self.import(&mut Vec::new(), &it.tree),
            Item::Use(_) => {}
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        match item {
            ImplItem::Fn(it) if is_for_tests(&it.attrs) => {}
            _ => visit::visit_impl_item(self, item),
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        match item {
            TraitItem::Fn(it) if is_for_tests(&it.attrs) => {}
            _ => visit::visit_trait_item(self, item),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|it| it.ident.to_string());
        let line = path.segments.first().map(|it| it.ident.span().start().line);
        self.module
            .paths
            .extend(line.map(|line| (names.collect(), line)));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, it: &'ast syn::Macro) {
        self.tokens(it.tokens.clone());
        visit::visit_macro(self, it);
    }

    /// A path in a visibility is no import.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

impl Collector<'_, '_> {
    fn import(&mut self, before: &mut Name, tree: &UseTree) {
        let length = before.len();
        match tree {
            UseTree::Path(it) => {
                before.push(it.ident.to_string());
                self.import(before, &it.tree);
            }
            UseTree::Group(it) => it.items.iter().for_each(|tree| self.import(before, tree)),
            UseTree::Glob(it) => {
                self.module.globs.push(before.clone());
                let line = it.star_token.spans[0].start().line;
                self.module.paths.push((before.clone(), line));
            }
            UseTree::Name(it) => {
                if it.ident != "self" {
                    before.push(it.ident.to_string());
                }
                self.name(before, it.ident.span().start().line, before.last().cloned());
            }
            UseTree::Rename(it) => {
                before.push(it.ident.to_string());
                self.name(
                    before,
                    it.ident.span().start().line,
                    Some(it.rename.to_string()),
                );
            }
        }
        before.truncate(length);
    }

    fn name(&mut self, path: &[String], line: usize, name: Option<String>) {
        self.module.paths.push((path.to_vec(), line));
        let names = name.map(|name| (name, path.to_vec()));
        self.module.imported.extend(names);
    }

    /// Collects paths in a macro's tokens that begin with `crate`, `self` or `super`.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Option<(Name, usize)> = None;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(it) if it.as_char() == ':' && path.is_some() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(it) => {
                    let name = it.to_string();
                    match &mut path {
                        Some((names, _)) if colons == 2 => names.push(name),
                        _ => {
                            self.module.paths.extend(path.take());
                            if ["crate", "self", "super"].contains(&name.as_str()) {
                                path = Some((vec![name], it.span().start().line));
                            }
                        }
                    }
                }
                TokenTree::Group(it) => {
                    self.module.paths.extend(path.take());
                    self.tokens(it.stream());
                }
                _ => self.module.paths.extend(path.take()),
            }
            colons = 0;
        }
        self.module.paths.extend(path);
    }
}

/// Whether an item is a test, or compiled for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let mut tokens = list.tokens.clone().into_iter();
            matches!(tokens.next(), Some(TokenTree::Ident(it)) if it == "test")
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_project_keeps_its_layers() {
        check().unwrap();
    }

    fn faults(source: &str, has_layers: bool) -> Vec<String> {
        let mut reader = Reader::default();
        let file = Path::new("lib.rs");
        reader
            .source(Vec::new(), source, file, Path::new(""))
            .unwrap();
        let imports = imports(&resolve(reader.modules));
        check_imports(&imports, if has_layers { &reader.order } else { &[] })
    }

    #[test]
    fn an_import_from_a_higher_layer_is_named() {
        let source = "
            mod low { use crate::high::{self, X}; }
            mod high { pub struct X; fn f(_: crate::low::Y) {} }";
        let fault = "low imports from high, a higher layer: lib.rs:2";
        assert_eq!(faults(source, true), [fault]);
        assert!(faults("mod low {} mod high { use crate::low; }", true).is_empty());
    }

    #[test]
    fn a_cycle_of_siblings_is_named_however_they_import() {
        let cycle = "modules of the crate's root import each other:
  a imports from b: lib.rs:1
  b imports from a: lib.rs:2";
        for [a, b] in [
            ["use super::b::X;", "fn f() { crate::a::g() }"],
            ["fn f(_: Vec<super::b::X>) {}", "use crate::a as other;"],
            [
                "use crate::b::{X, Y as Z};",
                "const X: u8 = max!(1, super::a::Y);",
            ],
            // Re-exported by the parent, or imported from it by a glob.
            ["use super::X;", "use crate::Y;"],
            ["use crate::X;", "mod c { use super::super::a::Y; }"],
        ] {
            let a_line = format!("pub mod a {{ pub struct Y; {a} }}");
            let b_line = format!("pub mod b {{ pub struct X; {b} }}");
            let source = format!("{a_line}\n{b_line}\npub use self::{{b::X, a::*}};");
            assert_eq!(faults(&source, false), [cycle], "{source}");
        }
    }

    #[test]
    fn parents_tests_and_visibilities_make_no_cycle() {
        let source = "
            mod a {
                mod child { use super::Own; pub(in crate::b) struct Y; }
                pub struct Own;
                use self::child::Y;
                #[cfg(test)]
                mod tests { use crate::b::X; }
                #[cfg(test)]
                fn only_in_tests() { crate::b::f() }
                #[test]
                fn a_test() { crate::b::f() }
            }
            mod b { use crate::a::Own; use std::a; }";
        assert!(faults(source, false).is_empty());
    }

    #[test]
    fn the_document_lists_the_layers_in_their_order() {
        let document = "| `a/` |
`k/src`, the kernel side:\n\n| file |\n|---|
| `hooks/`, `b.rs` | |\n| `main.rs` | all |
\n`u/src`, the user side:\n\n| layer | what |\n|---|---|
| `event.rs` | `Event` |\n| `app/`, `cli.rs`, `main.rs` | all |\n\n| `other` |";
        let user = listed(document, "u/src/lib.rs");
        assert_eq!(user, ["event", "app", "cli"]);
        assert_eq!(listed(document, "k/src/main.rs"), ["hooks", "b"]);
        assert!(listed(document, "x/src/lib.rs").is_empty());
        let declares = |names: [&str; 3]| agrees(&user, &names.map(str::to_owned));
        assert!(declares(["event", "app", "cli"]) && declares(["app", "cli", "event"]));
        assert!(!declares(["event", "cli", "app"]) && !declares(["app", "cli", "evil"]));
    }
}
