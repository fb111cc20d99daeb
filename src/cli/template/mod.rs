//! Go's templates as scripts use them with `--format`: fields, variables, pipelines, `if`, `with`, `range`, Go's and
//! Docker's functions. What is not offered is refused by name rather than printed wrongly.
//!
//! ```text
//! text ─ parse ─▶ [Node] ─ eval(value) ─▶ text        parse: what is written; eval: what it comes to
//! ```
//!
//! What is rendered is JSON: it cannot tell a Go struct, of which a missing field is a mistake, from a map, of which
//! it is `<no value>`. The maps are known by their names ([`MAPS`]).

mod eval;
mod function;
mod parse;

use serde_json::Value;

use super::output;
use crate::error::{Failure, Kind};

/// The fields that are maps with any keys.
const MAPS: [&str; 9] =
    ["Annotations", "Attributes", "Data", "ExposedPorts", "Labels", "Options", "Ports", "Sysctls", "Volumes"];

/// The fields that are lists, and are printed as empty ones where there are none; elsewhere Go prints `<nil>`.
const LISTS: [&str; 9] = ["Args", "Binds", "Cmd", "Entrypoint", "Env", "Layers", "OnBuild", "RepoDigests", "RepoTags"];

/// The most text that a template may become.
const MAX_OUTPUT: usize = 64 << 20;

/// The most text that a function is given, and makes of it.
const MAX_VALUE: usize = 16 << 20;

/// How many pieces of a template are looked at for one value, those in a range again for each of its items.
const MAX_STEPS: usize = 1 << 20;

/// A parsed template.
#[derive(Debug)]
pub struct Template(Vec<parse::Node>);

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in it is not understood.
    #[error("template parsing error: {what}")]
    Parse {
        /// What, and where.
        what: String,
    },
    /// There is no such field.
    #[error("template parsing error: template: can't evaluate field {field}")]
    NoField {
        /// Its name.
        field: String,
    },
    /// A function cannot do with what it was given.
    #[error("template parsing error: template: error calling {function}: {what}")]
    Call {
        /// The function.
        function: &'static str,
        /// Why.
        what: String,
    },
    /// Values that cannot be gone through.
    #[error("template parsing error: template: range can't iterate over {what}")]
    Range {
        /// The value.
        what: String,
    },
    /// It becomes more text than is reasonable.
    #[error("template parsing error: template: it becomes more than {MAX_OUTPUT} bytes of text")]
    TooLong,
    /// It goes on for longer than is reasonable.
    #[error("template parsing error: template: it takes more than {MAX_STEPS} steps")]
    TooManySteps,
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl Template {
    /// Parses `text`, in which `\\t` and `\\n` are what they look like.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let unescaped = text.replace("\\t", "\t").replace("\\n", "\n");
        parse::parse(&unescaped).map(Self)
    }

    /// Fills it in from `value`. Of what is in `value`, nothing is left that a terminal would obey.
    pub fn render(&self, value: &Value) -> Result<String, Error> {
        eval::render(&self.0, value, false)
    }

    /// The same of what the columns are called, which functions for the form of a value leave alone.
    fn render_heading(&self, headings: &Value) -> Result<String, Error> {
        eval::render(&self.0, headings, true)
    }
}

/// How `--format` wants a list of things: a table of our own, of chosen columns, JSON, or a template.
#[derive(Debug)]
pub enum Format {
    /// The command's own table.
    Table,
    /// A table whose columns a template says.
    Columns(Template),
    /// One JSON object a line.
    Json,
    /// A template for each line.
    Lines(Template),
}

impl Format {
    /// What was typed after `--format`; without it, the table.
    pub fn parse(text: Option<&str>) -> Result<Self, Error> {
        Ok(match text.map(str::trim) {
            None | Some("" | "table") => Self::Table,
            Some("json") => Self::Json,
            Some(text) => match text.strip_prefix("table") {
                Some(columns) => Self::Columns(Template::parse(columns.trim_start())?),
                None => Self::Lines(Template::parse(text)?),
            },
        })
    }

    /// The text of `rows`, each an object; `table` makes the command's own table of them, and `headers` are the
    /// headings of fields that a table of chosen columns begins with.
    pub fn show(
        &self,
        rows: &[Value],
        headers: &[(&str, &str)],
        table: impl FnOnce(&[Value]) -> String,
    ) -> Result<String, Error> {
        match self {
            Self::Table => Ok(output::printable(&table(rows))),
            Self::Json => Ok(rows.iter().map(|row| output::json(row) + "\n").collect()),
            Self::Lines(template) => rows.iter().map(|row| template.render(row).map(|line| line + "\n")).collect(),
            Self::Columns(template) => {
                let head: serde_json::Map<_, _> =
                    headers.iter().map(|(field, heading)| ((*field).to_owned(), Value::from(*heading))).collect();
                let head = template.render_heading(&head.into())?;
                let lines: Result<Vec<_>, _> = rows.iter().map(|row| template.render(row)).collect();
                Ok(output::aligned([head].into_iter().chain(lines?)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str, value: &Value) -> Result<String, String> {
        Template::parse(template).and_then(|t| t.render(value)).map_err(|e| e.to_string())
    }

    #[test]
    fn what_scripts_write() {
        let value = json!({
            "A": {"B": 3, "L": ["x", "y"], "F": 2.5}, "S": "text", "T": true, "N": null, "E": [],
            "Labels": {"k": "v", "a.b": "c"}, "M": [{"Name": "one"}, {"Name": "two"}],
            "Config": {"Cmd": null, "Labels": null}, "Ports": {"80/tcp": {}}, "Esc": "\u{1b}[2J\u{9b}<",
        });
        for (template, becomes) in [
            ("{{.A.B}}-{{ .S }}\\t!", "3-text\t!"),
            ("{{json .S}} {{.A.L}} {{json .A.L}}", "\"text\" [x y] [\"x\",\"y\"]"),
            ("{{.S | json}} {{.S | upper | printf \"%q\"}}", "\"text\" \"TEXT\""),
            ("{{range .A.L}}<{{.}}>{{end}}", "<x><y>"),
            ("{{range $i, $e := .A.L}}{{if $i}}, {{end}}{{$i}}={{$e}}{{end}}", "0=x, 1=y"),
            ("{{range $k, $v := .Labels}}{{$k}}:{{$v}};{{end}}", "a.b:c;k:v;"),
            ("{{range .E}}x{{else}}none{{end}}", "none"),
            ("{{if .N}}a{{else if .T}}b{{else}}c{{end}}", "b"),
            ("{{with .A}}{{.B}}{{$.S}}{{end}}{{with .N}}x{{else}}y{{end}}", "3texty"),
            ("{{index .A.L 1}} {{index .Labels \"a.b\"}} {{(index .M 0).Name}} {{len .A.L}}", "y c one 2"),
            ("{{.Labels}} {{.Labels.none}} {{.N}}", "map[a.b:c k:v] <no value> <nil>"),
            ("{{join .A.L \"-\"}} {{split \"a,b\" \",\"}} {{title \"ab\"}} {{pad \"x\" 1 2}}.", "x-y [a b] Ab  x  ."),
            ("{{truncate .S 2}} {{slice .S 1 3}} {{lower \"AB\"}} {{print 1 2 \"x\" .S}}", "te ex ab 1 2xtext"),
            ("{{printf \"%-5s|%3d|%v|%.1f|%x|%t|%%\" .S .A.B .A.L .A.F 255 .T}}", "text |  3|[x y]|2.5|ff|true|%"),
            (
                "{{eq .S \"text\"}} {{eq .A.B 1 2 3}} {{ne .A.B 3}} {{lt .A.B 4}} {{ge .A.B 4}}",
                "true true false true false",
            ),
            ("{{and .T .S}} {{or .N .S}} {{not .T}}", "text text false"),
            ("a {{- /* a comment */ -}} b {{- .S -}} c", "abtextc"),
            ("{{$x := .S}}{{$x}}{{$x = \"new\"}}{{$x}}", "textnew"),
            ("{{range .M}}{{if eq .Name \"two\"}}{{break}}{{end}}{{.Name}}{{end}}", "one"),
            ("{{println .S}}{{html \"<a>\"}}{{`raw\"`}}", "text\n&lt;a&gt;raw\""),
            ("{{index .S 0}} {{json (split .S \"\")}} {{len (split .S \"\")}}", "116 [\"t\",\"e\",\"x\",\"t\"] 4"),
            ("{{.Config.Cmd}} {{.Config.Labels}} {{json .Config.Cmd}} {{len .Config.Cmd}}", "[] map[] null 0"),
            ("{{index .Config.Labels \"a\"}}{{.Config.Labels.b}}{{range .Config.Cmd}}x{{end}}", "<no value>"),
            ("{{.Ports}} {{json .Esc}} {{.Esc}}", "map[80/tcp:{}] \"\\u001b[2J\\u009b<\" \u{fffd}[2J\u{fffd}<"),
            ("\u{1b}[1m{{.S}}\u{1b}[0m", "\u{1b}[1mtext\u{1b}[0m"),
            ("{{(json .Labels) | len}} {{with $x := .A}}{{$x.B}}{{end}}", "19 3"),
        ] {
            assert_eq!(render(template, &value).as_deref(), Ok(becomes), "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let value = json!({"A": 1, "S": "x"});
        for (bad, says) in [
            ("{{.A", "unclosed action"),
            ("{{.Nope}}", "can't evaluate field Nope"),
            ("{{.A.B}}", "can't evaluate field B"),
            ("{{nope .A}}", "function \"nope\" not defined"),
            ("{{template \"x\"}}", "template"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{if .A}}x", "unexpected EOF"),
            ("{{range .S}}{{end}}", "range can't iterate over x"),
            ("{{index .A 1}}", "index"),
            ("{{$x}}", "undefined variable \"$x\""),
            ("{{\"open}}", "unterminated quoted string"),
            ("{{}}", "missing value for command"),
            ("{{.A | }}", "missing value for command"),
        ] {
            let error = render(bad, &value).unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
        assert!(render(&"{{(".repeat(1000), &value).unwrap_err().contains("template parsing error"));
        assert!(render(&"{{if .A}}".repeat(1000), &value).unwrap_err().contains("deep"));
    }

    #[test]
    fn output_is_limited() {
        let small = json!({"L": vec!["x".repeat(100_000); 700]});
        assert!(render("{{range .L}}{{.}}{{end}}", &small).unwrap_err().contains("more than"));
    }

    #[test]
    fn work_is_limited() {
        let many = json!({"L": vec![1; 1000], "S": "x".repeat(1000)});
        let nested = "{{range .L}}{{range $.L}}{{range $.L}}{{end}}{{end}}{{end}}";
        assert!(render(nested, &many).unwrap_err().contains("steps"));
        let doubling = format!("{{{{$x := .S}}}}{}", "{{$x = print $x $x}}".repeat(60));
        assert!(render(&doubling, &many).unwrap_err().contains("more than"));
        let wide = "{{printf \"%9999999s\" .S}}";
        assert!(render(wide, &many).unwrap_err().contains("too large"));
        let joined = "{{$x := .S}}{{$x = print $x $x}}{{$x = print $x $x $x $x $x $x $x $x}}{{$x = join .L $x}}";
        assert!(render(joined, &many).is_ok());
        assert!(render(&(joined.to_owned() + "{{join .L $x}}"), &many).unwrap_err().contains("more than"));
        assert!(render(&(joined.to_owned() + "{{json (split $x \"\")}}"), &many).unwrap_err().contains("more than"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "(\\{\\{|\\}\\}|[ .$a-zA-Z\"`()|:=,-]|range|if|end|else|with|json|index|printf|%d|%5s){0,40}") {
            drop(render(&text, &json!({"a": [1, {"b": "c"}], "A": null})));
        }
    }

    #[test]
    fn formats_of_lists() {
        let rows = [json!({"ID": "1", "Name": "a-long-name"}), json!({"ID": "22", "Name": "b"})];
        let headers = [("ID", "IMAGE ID"), ("Name", "NAME")];
        let show =
            |text: &str| Format::parse(Some(text)).unwrap().show(&rows, &headers, |_| "own\n".to_owned()).unwrap();
        assert_eq!(show("table"), "own\n");
        assert_eq!(show("{{.ID}}"), "1\n22\n");
        assert_eq!(show("json"), "{\"ID\":\"1\",\"Name\":\"a-long-name\"}\n{\"ID\":\"22\",\"Name\":\"b\"}\n");
        assert_eq!(show("table{{.ID | upper}}"), "IMAGE ID\n1\n22\n", "a heading stays as it is");
        assert_eq!(show("table {{json .ID}} {{printf \"%s\" .Name}}").lines().next(), Some("IMAGE ID NAME"));
        assert_eq!(show("table {{.ID}}\\t{{.Name}}"), "IMAGE ID   NAME\n1          a-long-name\n22         b\n");
    }
}
