//! Manifest lists as `docker manifest` knows them: put together here from images in a registry, then pushed; and what a
//! reference in a registry is, shown as that command shows it.
//!
//! A list that is being put together is a record in the database, its images' manifests among it, and has nothing to do
//! with the images that are here. Documents are written as Docker writes them, to the byte, so that a list made of the
//! same images has the same digest, whichever of the two has made it.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde::{Deserialize, Serialize};

use super::{Error, MAX_CONFIG_BYTES, MAX_INDEX_ENTRIES, Result, Store};
use crate::content;
use crate::oci::{Descriptor, Digest, Document, Manifest, MediaType};
use crate::reference::Reference;
use crate::registry::{Client, Contents, Delivery, Parcel};

const VERSION: u32 = 1;

/// One manifest of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The image's full name.
    #[serde(rename = "Ref")]
    pub name: String,
    /// What and what for.
    #[serde(rename = "Descriptor")]
    pub descriptor: Described,
    /// The manifest.
    #[serde(skip)]
    pub raw: Vec<u8>,
}

/// A descriptor as that command writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// The manifest's type.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// What it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Spec>,
}

/// A platform with all that a list can say of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// The operating system's version.
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// What the operating system must have.
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// The processor's variant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// What a reference means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspected {
    /// One manifest, of whatever kind.
    One(Entry),
    /// A list of them.
    List(Vec<Entry>),
}

/// A record as it is kept.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    entries: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    entry: Entry,
    /// Manifests are JSON, and so text.
    raw: String,
}

impl Store {
    /// What `name` is: a list that is being put together here, or else what the registry has. With `list`, the entry of
    /// that list, if it has one. Manifests of a registry's list are fetched if `whole` says so.
    pub async fn inspect_manifest(
        &self,
        client: &Client,
        name: &Reference,
        list: Option<&Reference>,
        whole: bool,
    ) -> Result<Inspected> {
        match list {
            Some(list) => Ok(Inspected::One(self.entry_or_remote(client, list, name).await?)),
            None => match self.list_entries(name)? {
                Some(entries) => Ok(Inspected::List(entries)),
                None => Remote { client, name }.inspect(whole).await,
            },
        }
    }

    /// Puts images together to a list, or adds them to one that is there if `amend` says so.
    pub async fn create_list(
        &self,
        client: &Client,
        name: &Reference,
        images: &[Reference],
        amend: bool,
    ) -> Result<()> {
        let refused = |old: &Option<Vec<Entry>>| match old {
            Some(_) if !amend => Err(Error::ListExists),
            _ => Ok(()),
        };
        refused(&self.list_entries(name)?)?;
        let mut new = Vec::new();
        for image in images {
            new.push(self.entry_or_remote(client, name, image).await?);
        }
        self.change_list(name, |old| {
            refused(&old)?;
            Ok(((), Some(with_entries(old.unwrap_or_default(), new))))
        })
    }

    /// Changes what a list says of one of its images.
    pub fn annotate_list(&self, name: &Reference, image: &Reference, change: impl FnOnce(&mut Spec)) -> Result<()> {
        self.change_list(name, |old| {
            let mut entries = old.unwrap_or_default();
            let absent = || Error::NotInList { image: image.familiar(), list: name.familiar() };
            let entry = entries.iter_mut().find(|entry| entry.name == image.to_string()).ok_or_else(absent)?;
            let spec = entry.descriptor.platform.get_or_insert_default();
            change(spec);
            if !is_known(spec) {
                return Err(Error::UnknownPlatform { os: spec.os.clone(), architecture: spec.architecture.clone() });
            }
            Ok(((), Some(entries)))
        })
    }

    /// Pushes a list, and what of its images is in other repositories of the same registry; `pushed` is told of those.
    pub async fn push_list(
        &self,
        client: &Client,
        name: &Reference,
        pushed: &(dyn Fn(&Reference, &Digest) + Sync),
    ) -> Result<Digest> {
        let entries = self.list_entries(name)?.ok_or_else(|| Error::NoList { name: name.to_string() })?;
        let sources = sources(name, &entries)?;
        let list = list_document(&entries)?;
        let quiet = &|_, _: &crate::registry::Error| {};
        let repositories: Vec<String> = sources.iter().map(|(source, _)| source.repository().to_owned()).collect();
        client.prepare(name, &repositories, quiet).await?;
        for (source, entry) in &sources {
            copy(client, source, name, entry).await?;
            pushed(&name.with_digest(&entry.descriptor.digest), &entry.descriptor.digest);
        }
        let descriptor = Descriptor::new(list.media_type, Digest::sha256(&list.bytes), list.bytes.len() as u64);
        client.name(name, &descriptor, &list.bytes, quiet).await?;
        Ok(descriptor.digest)
    }

    /// Forgets a list.
    pub fn remove_list(&self, name: &Reference) -> Result<()> {
        self.change_list(name, |old| match old {
            Some(_) => Ok(((), None)),
            None => Err(Error::NoList { name: name.to_string() }),
        })
    }

    async fn entry_or_remote(&self, client: &Client, list: &Reference, image: &Reference) -> Result<Entry> {
        let known = self.list_entries(list)?.unwrap_or_default();
        if let Some(entry) = known.into_iter().find(|entry| entry.name == image.to_string()) {
            return Ok(entry);
        }
        match (Remote { client, name: image }).inspect(true).await? {
            Inspected::One(entry) => Ok(entry),
            Inspected::List(_) => Err(Error::IsList { name: image.familiar() }),
        }
    }

    fn list_entries(&self, name: &Reference) -> Result<Option<Vec<Entry>>> {
        self.db.lists().get(&name.to_string())?.map(|record| read(name, &record)).transpose()
    }

    fn change_list<T>(
        &self,
        name: &Reference,
        change: impl FnOnce(Option<Vec<Entry>>) -> Result<(T, Option<Vec<Entry>>)>,
    ) -> Result<T> {
        self.db.lists().change(&name.to_string(), |old| {
            let entries = old.as_deref().map(|record| read(name, record)).transpose();
            match entries.and_then(change) {
                Ok((made, new)) => (new.map(|entries| write(&entries)), Ok(made)),
                Err(error) => (old, Err(error)),
            }
        })?
    }
}

/// A reference in a registry.
struct Remote<'a> {
    client: &'a Client,
    name: &'a Reference,
}

impl Remote<'_> {
    async fn inspect(&self, whole: bool) -> Result<Inspected> {
        let document = self.client.manifest(self.name, &|_, _| {}).await?;
        match self.parse(&document.descriptor, &document.bytes)? {
            Document::Manifest(manifest) => {
                let platform = if whole { self.platform(&manifest).await? } else { Spec::default() };
                Ok(Inspected::One(entry(self.name, &document.descriptor, document.bytes, Some(platform))))
            }
            Document::Index(index) if index.manifests.len() > MAX_INDEX_ENTRIES => {
                Err(Error::IndexEntries { reference: self.name.familiar(), entries: index.manifests.len() })
            }
            Document::Index(_) => Ok(Inspected::List(self.entries(&document.bytes, whole).await?)),
        }
    }

    async fn entries(&self, index: &[u8], whole: bool) -> Result<Vec<Entry>> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<serde_json::Value>,
        }
        let unreadable = |source| Error::Config { reference: self.name.familiar(), source };
        let index: Index = serde_json::from_slice(index).map_err(unreadable)?;
        let mut entries = Vec::new();
        for listed in index.manifests {
            // The index has been read once; a platform has more fields here than an image needs.
            let spec = listed.get("platform").cloned().map(serde_json::from_value).transpose().map_err(unreadable)?;
            let descriptor: Descriptor = serde_json::from_value(listed).map_err(unreadable)?;
            let name = self.name.pinned_to(&descriptor.digest);
            let raw = if whole { self.client.manifest(&name, &|_, _| {}).await?.bytes } else { Vec::new() };
            entries.push(entry(&name, &descriptor, raw, spec));
        }
        Ok(entries)
    }

    fn parse(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<Document> {
        Document::parse(&descriptor.media_type, bytes).map_err(|source| Error::Document {
            reference: self.name.familiar(),
            digest: descriptor.digest.clone(),
            source,
        })
    }

    /// What the config says to run on. Those of artifacts say nothing, or are no JSON at all.
    async fn platform(&self, manifest: &Manifest) -> Result<Spec> {
        let config = &manifest.config;
        if config.size > MAX_CONFIG_BYTES {
            return Err(Error::ConfigSize { reference: self.name.familiar(), size: config.size });
        }
        let mut body = self.client.blob(self.name, config, 0).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() as u64 > config.size {
                break;
            }
        }
        let (expected, actual) = (config.digest.clone(), digest_of(&config.digest, &bytes));
        if actual != expected {
            return Err(content::Error::Digest { expected, actual }.into());
        }
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }
}

fn digest_of(like: &Digest, bytes: &[u8]) -> Digest {
    let mut hasher = like.hasher();
    hasher.update(bytes);
    hasher.finish()
}

fn entry(name: &Reference, descriptor: &Descriptor, raw: Vec<u8>, platform: Option<Spec>) -> Entry {
    let Descriptor { media_type, digest, size, .. } = descriptor.clone();
    Entry { name: name.to_string(), descriptor: Described { media_type, digest, size, platform }, raw }
}

/// The images that are in other repositories than the list is to be in.
fn sources<'a>(name: &Reference, entries: &'a [Entry]) -> Result<Vec<(Reference, &'a Entry)>> {
    let mut sources = Vec::new();
    for entry in entries {
        let source: Reference = entry.name.parse()?;
        if source.registry() != name.registry() {
            let (source_registry, target) = (source.registry().to_owned(), name.registry().to_owned());
            return Err(Error::OtherRegistry { source_registry, target });
        }
        if source.repository() != name.repository() {
            sources.push((source, entry));
        }
    }
    Ok(sources)
}

/// Brings an image from one repository of a registry into another: mounted where the registry does that, or else through us.
async fn copy(client: &Client, source: &Reference, target: &Reference, entry: &Entry) -> Result<()> {
    let quiet = &|_, _: &crate::registry::Error| {};
    let manifest: Manifest =
        serde_json::from_slice(&entry.raw).map_err(|source| Error::Config { reference: entry.name.clone(), source })?;
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        let contents = Elsewhere { client, source, blob };
        let parcel = Parcel { reference: target, blob, contents: &contents, from: Some(source.repository()) };
        match client.deliver(parcel, &|_| {}, quiet).await? {
            Delivery::There | Delivery::Mounted(_) | Delivery::Sent => {}
        }
    }
    let Described { media_type, digest, size, .. } = entry.descriptor.clone();
    let descriptor = Descriptor::new(media_type, digest, size);
    client.name(&target.with_digest(&descriptor.digest), &descriptor, &entry.raw, quiet).await?;
    Ok(())
}

/// A blob of another repository.
struct Elsewhere<'a> {
    client: &'a Client,
    source: &'a Reference,
    blob: &'a Descriptor,
}

impl Contents for Elsewhere<'_> {
    fn read(&self, from: u64, length: u64) -> std::io::Result<BoxStream<'static, std::io::Result<Bytes>>> {
        let (client, source, blob) = (self.client.clone(), self.source.clone(), self.blob.clone());
        let opened = async move {
            let body = client.blob(&source, &blob, from).await.map_err(std::io::Error::other)?;
            let skip = from - body.start().min(from);
            Ok::<_, std::io::Error>(stream::try_unfold((body, skip, length), |(mut body, mut skip, left)| async move {
                loop {
                    let chunk = if left > 0 { body.next().await } else { None };
                    let Some(chunk) = chunk else { return Ok(None) };
                    let chunk = Bytes::from(chunk.map_err(std::io::Error::other)?);
                    let passed = skip.min(chunk.len() as u64);
                    skip -= passed;
                    let chunk = chunk.slice(passed as usize..);
                    let chunk = chunk.slice(..chunk.len().min(left as usize));
                    if !chunk.is_empty() {
                        let left = left - chunk.len() as u64;
                        return Ok(Some((chunk, (body, skip, left))));
                    }
                }
            }))
        };
        let pieces = stream::once(opened).flat_map(|opened| match opened {
            Ok(pieces) => pieces.boxed(),
            Err(error) => stream::once(async move { Err(error) }).boxed(),
        });
        Ok(pieces.boxed())
    }
}

/// A list as it is pushed.
struct ListDocument {
    media_type: MediaType,
    bytes: Vec<u8>,
}

fn list_document(entries: &[Entry]) -> Result<ListDocument> {
    for entry in entries {
        let named = entry.descriptor.platform.as_ref().is_some_and(|p| !p.os.is_empty() && !p.architecture.is_empty());
        if !named {
            return Err(Error::NoOsArch { image: entry.name.clone() });
        }
    }
    Ok(ListDocument { media_type: list_type(entries), bytes: list_json(entries).into_bytes() })
}

/// Docker's rule: what the first of them is.
fn list_type(entries: &[Entry]) -> MediaType {
    let first = entries.first().map(|entry| entry.descriptor.media_type.as_str());
    if first == Some(MediaType::MANIFEST) { MediaType::INDEX.into() } else { MediaType::DOCKER_LIST.into() }
}

/// The list as a document, written as Docker writes it.
pub fn list_json(entries: &[Entry]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List<'a> {
        schema_version: u32,
        media_type: MediaType,
        manifests: Vec<Listed<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed<'a> {
        media_type: &'a MediaType,
        size: u64,
        digest: &'a Digest,
        platform: Spec,
    }
    fn listed(Entry { descriptor, .. }: &Entry) -> Listed<'_> {
        Listed {
            media_type: &descriptor.media_type,
            size: descriptor.size,
            digest: &descriptor.digest,
            platform: descriptor.platform.clone().unwrap_or_default(),
        }
    }
    let manifests = entries.iter().map(listed).collect();
    let list = List { schema_version: 2, media_type: list_type(entries), manifests };
    indented(&escaped(&serde_json::to_string(&list).expect("plain data")), "   ")
}

/// Go's `json.Indent`: the same text with other white space between its words. What follows the value stays.
pub fn indented(json: &str, by: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped, mut just_opened) = (0_usize, false, false, false);
    let end = json.trim_end().len();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(by, depth));
    };
    for c in json[..end].chars() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        if just_opened != closes {
            line(&mut out, depth);
        }
        just_opened = matches!(c, '{' | '[');
        out.push(c);
        match c {
            '{' | '[' => depth += 1,
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            '"' => in_text = true,
            _ => {}
        }
    }
    out + &json[end..]
}

/// Go writes these so wherever it writes JSON, for the sake of whoever puts it into a page.
pub fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// With Docker's order, which is that of its files' names.
fn with_entries(mut entries: Vec<Entry>, new: Vec<Entry>) -> Vec<Entry> {
    for entry in new {
        match entries.iter_mut().find(|known| known.name == entry.name) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
    }
    entries.sort_by_key(|entry| entry.name.replace(':', "-").replace('/', "_"));
    entries
}

fn read(name: &Reference, record: &str) -> Result<Vec<Entry>> {
    let unreadable = |reason: String| Error::Record { name: name.to_string(), reason };
    let record: Record = serde_json::from_str(record).map_err(|error| unreadable(error.to_string()))?;
    if record.version != VERSION {
        return Err(unreadable(format!("it has version {}, and this wherry knows {VERSION}", record.version)));
    }
    Ok(record.entries.into_iter().map(|kept| Entry { raw: kept.raw.into_bytes(), ..kept.entry }).collect())
}

fn write(entries: &[Entry]) -> String {
    let kept = |entry: &Entry| Kept { entry: entry.clone(), raw: String::from_utf8_lossy(&entry.raw).into_owned() };
    let record = Record { version: VERSION, entries: entries.iter().map(kept).collect() };
    serde_json::to_string(&record).expect("plain data")
}

/// What Go could be told to compile for when Docker's command was written, and WebAssembly.
fn is_known(spec: &Spec) -> bool {
    let architectures: &[&str] = match spec.os.as_str() {
        "darwin" => &["386", "amd64", "arm", "arm64"],
        "freebsd" | "netbsd" | "openbsd" => &["386", "amd64", "arm"],
        "linux" => {
            &["386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x", "wasm"]
        }
        "plan9" => &["386", "amd64"],
        "dragonfly" | "solaris" => &["amd64"],
        "windows" => &["386", "amd64", "arm", "arm64"],
        "wasi" | "wasip1" | "wasip2" | "wasip3" => &["wasm", "wasm32", "wasm64"],
        _ => &[],
    };
    architectures.contains(&spec.architecture.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_as_go_does_it() {
        for (text, expected) in [
            (
                r#"{"a":[1,{"b":"x, {y}\": z"}],"c":{},"d":[]}"#,
                "{\n\t\"a\": [\n\t\t1,\n\t\t{\n\t\t\t\"b\": \"x, {y}\\\": z\"\n\t\t}\n\t],\n\t\"c\": {},\n\t\"d\": []\n}",
            ),
            ("{ \"a\" : 1.50e3 }\n", "{\n\t\"a\": 1.50e3\n}\n"),
            ("[[],[[]]]", "[\n\t[],\n\t[\n\t\t[]\n\t]\n]"),
            ("7", "7"),
        ] {
            assert_eq!(indented(text, "\t"), expected, "{text}");
        }
        assert_eq!(escaped(r#"{"a":"<b>&"}"#), r#"{"a":"\u003cb\u003e\u0026"}"#);
    }

    #[test]
    fn a_list_has_the_bytes_that_docker_gives_it() {
        let entry = |name: &str, digest: &str, size: u64, media_type: &str, platform: Spec| Entry {
            name: name.to_owned(),
            descriptor: Described {
                media_type: media_type.into(),
                digest: digest.parse().unwrap(),
                size,
                platform: Some(platform),
            },
            raw: Vec::new(),
        };
        let spec = |architecture: &str| Spec {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            ..Spec::default()
        };
        let arm = Spec {
            variant: "v8".to_owned(),
            os_version: "1".to_owned(),
            os_features: vec!["a".to_owned(), "b".to_owned()],
            ..spec("arm64")
        };
        // What docker 28.5 pushed.
        for (media_type, (one, two, size), list) in [
            (
                MediaType::MANIFEST,
                (
                    "sha256:4a16e102bd72de8f669085da03c916185f5bc4515f1b17d1163b8b2c8568ed62",
                    "sha256:990121a0be756115374bbe39da115c42c5e80930e1dfc63cd51c20b09805dd25",
                    349,
                ),
                "sha256:94c4f75e13514c762d15e132e29b239689a3e831f32a2776db5a6efbb86b4054",
            ),
            (
                MediaType::DOCKER_MANIFEST,
                (
                    "sha256:179e5595dea87558647b602c81e287dcc02622332acdfb3d3e07201fb92dea04",
                    "sha256:dc84a2198ad0b98808252a07d6d0f070db8dd7bc21fa48049e57bc370155e906",
                    427,
                ),
                "sha256:0a2617e69fa988bbf0ccf33625e21126976001b73c8a20716a1848c104ae9f47",
            ),
        ] {
            let amd = entry("h/x:amd64", one, size, media_type, spec("amd64"));
            let arm = entry("h/x:arm64", two, size, media_type, arm.clone());
            let document = list_document(&with_entries(vec![arm], vec![amd])).unwrap();
            assert_eq!(Digest::sha256(&document.bytes).as_str(), list);
        }
        assert!(list_document(&[entry("x", &Digest::sha256(b"").to_string(), 1, "", Spec::default())]).is_err());
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let name: Reference = "h.io/x:1".parse().unwrap();
        let descriptor = Descriptor::new(MediaType::MANIFEST.into(), Digest::sha256(b"{ }"), 3);
        let entries = vec![entry(&name, &descriptor, b"{ }".to_vec(), Some(Spec::default()))];
        assert_eq!(read(&name, &write(&entries)).unwrap(), entries);
        assert!(matches!(read(&name, r#"{"version":9,"entries":[]}"#), Err(Error::Record { .. })));
    }
}
