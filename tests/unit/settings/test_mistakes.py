"""Each kind of mistake gives exactly one message, at its own line and column, with its path and the rule."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.settings.writing import find_problems, load, make_key, write

CREDENTIAL = """
targets:
  laptop: {{type: file, client: claude-code}}
issuers:
  admin: {{type: http, base_url: "http://127.0.0.1:1", auth: {{type: bearer, token_env: ADMIN_TOKEN}}}}
credentials:
  reader:
    kind: rk
    path: a/b
    issuer: admin
"""


def credential(rest: str, **fields: str) -> str:
    """A good credential with more lines below it, or with other lines in place of some."""
    lines = CREDENTIAL.format().rstrip().splitlines()
    for name, line in fields.items():
        lines = [f"    {line}" if one.startswith(f"    {name}:") else one for one in lines]
    return "\n".join([*lines, *(f"    {line}" for line in rest.splitlines())]) + "\n"


MISTAKES: dict[str, tuple[str, str, str]] = {
    # what: text, path, the rule's words
    "an unknown section": ("⟦credential: {}\n", "credential", r"is not a setting; did you mean credentials\?"),
    "an unknown setting of a section": ("engine:\n  ⟦wrokers: 4\n", "engine.wrokers", r"is not a setting; did you mean workers\?"),
    "an unknown setting of the service": ("millimetric:\n  ⟦end_point: x\n", "millimetric.end_point", "did you mean endpoint"),
    "an unknown setting of a credential": (credential("⟦paht: x"), "credentials.reader.paht", r"did you mean path\?"),
    "an unknown setting of a rotation": (
        credential("rotation:\n  ⟦evry: 30d"),
        "credentials.reader.rotation.evry",
        r"did you mean every\?",
    ),
    "an unknown setting of an overlap": (
        credential("rotation: {overlap: {⟦minimum: 1h}}"),
        "credentials.reader.rotation.overlap.minimum",
        "is not a setting; did you mean min",
    ),
    "an unknown setting of a target's use": (
        credential("targets: [{name: laptop, ⟦needed: true}]"),
        "credentials.reader.targets[0].needed",
        "is not a setting; known are name, required, settle",
    ),
    "an unknown setting of a store": ("stores:\n  s: {type: embedded, ⟦pat: /x}\n", "stores.s.pat", r"did you mean path\?"),
    "an unknown setting of an issuer's sign-in": (
        "issuers:\n  s: {type: http, base_url: 'https://a.example', auth: {type: bearer, token_env: T, ⟦tokn: x}}\n",
        "issuers.s.auth.tokn",
        "is not a setting; did you mean token_",
    ),
    "a setting where none can be made": ("notify: {⟦email: x}\n", "notify.email", "is not a setting$"),
    "text for a number": ("engine:\n  ⟦workers: many\n", "engine.workers", "must be a whole number"),
    "true for a number": ("engine:\n  ⟦workers: true\n", "engine.workers", "must be a whole number"),
    "a part of a number": ("engine: {⟦workers: 4.5}\n", "engine.workers", "must be a whole number"),
    "a number out of its limits": ("engine: {⟦workers: 1}\n", "engine.workers", "must be at least 2"),
    "a number for a flag": (credential("⟦read_only: 1"), "credentials.reader.read_only", "must be true or false"),
    "a number for text": (credential("⟦project: 12"), "credentials.reader.project", "must be text"),
    "text for a list": (credential("⟦targets: laptop"), "credentials.reader.targets", "must be a list"),
    "a list for a section": ("⟦engine: [workers]\n", "engine", "must be a mapping"),
    "a list for a section of names": ("⟦stores: [embedded]\n", "stores", "must be a mapping"),
    "text for a credential": ("credentials:\n  ⟦reader: rk\n", "credentials.reader", "must be a mapping"),
    "nothing for a rotation": (credential("⟦rotation:"), "credentials.reader.rotation", "must be a mapping"),
    "a missing field": ("credentials:\n  ⟦reader: {kind: rk, issuer: none}\n", "credentials.reader.path", "is required"),
    "a duration without unit": (
        credential("rotation: {⟦every: 30}"),
        "credentials.reader.rotation.every",
        "a duration is text such as 30d",
    ),
    "a duration with an unknown unit": (credential("rotation: {⟦every: 30y}"), "credentials.reader.rotation.every", "'y' is not a unit"),
    "a duration of nothing": (credential("⟦leak_deadline: 0s"), "credentials.reader.leak_deadline", "longer than nothing"),
    "a bad cron expression": (credential("rotation:\n  ⟦cron: 61 * * * *"), "credentials.reader.rotation.cron", "minute"),
    "an unknown time zone of a cron expression": (
        credential("rotation:\n  ⟦cron: 1 2 * * * Europe/Lodnon"),
        "credentials.reader.rotation.cron",
        "did you mean Europe/London",
    ),
    "an unknown time zone of a window": (
        credential('rotation: {every: 30d, ⟦window: "Mon-Fri 09:00-16:00 Europe/Lodnon"}'),
        "credentials.reader.rotation.window",
        "unknown time zone .* did you mean Europe/London",
    ),
    "a window without a zone": (
        credential('rotation: {every: 30d, ⟦window: "09:00-16:00"}'),
        "credentials.reader.rotation.window",
        "has no time zone",
    ),
    "every and cron": (
        credential('rotation: {every: 30d, ⟦cron: "0 1 * * *"}'),
        "credentials.reader.rotation.cron",
        "stands beside `every`: remove one",
    ),
    "jitter longer than every": (
        credential("rotation: {every: 1d, ⟦jitter: 2d}"),
        "credentials.reader.rotation.jitter",
        "must not be longer",
    ),
    "max_age shorter than every": (
        credential("rotation: {⟦max_age: 1d, every: 2d}"),
        "credentials.reader.rotation.max_age",
        "must not be shorter",
    ),
    "overlap: max shorter than min": (
        credential("rotation: {overlap: {min: 2h, ⟦max: 1h}}"),
        "credentials.reader.rotation.overlap.max",
        "`max` must not be shorter than `min`: max is 1h, min is 2h",
    ),
    "overlap: min longer than the default max": (
        credential("rotation: {overlap: {⟦min: 8d}}"),
        "credentials.reader.rotation.overlap.min",
        "max is 7d, min is 8d",
    ),
    "no overlap without targets": (
        credential("rotation: {overlap: {⟦min: 0s}}"),
        "credentials.reader.rotation.overlap.min",
        "without targets",
    ),
    "a schedule without an issuer": (
        credential("rotation: {⟦every: 30d}", issuer="issuer: none"),
        "credentials.reader.rotation.every",
        "`issuer: none` mints nothing",
    ),
    "read_only with an issuer": (credential("⟦read_only: true"), "credentials.reader.read_only", "needs `issuer: none`"),
    "read_only in a store that nobody else writes to": (
        credential("⟦read_only: true", issuer="issuer: none"),
        "credentials.reader.read_only",
        "embedded has no other writer",
    ),
    "verify_for shorter than the cache": (
        credential("⟦verify_for: 1m"),
        "credentials.reader.verify_for",
        r"`millimetric.cache_time` \(5m\)",
    ),
    "an unknown store": (credential("⟦store: embeded"), "credentials.reader.store", "no store called embeded; did you mean embedded"),
    "the default store, which is not there": (
        "stores: {vaults: {type: embedded}}\ncredentials:\n  ⟦reader: {kind: rk, path: a/b, issuer: none}\n",
        "credentials.reader.store",
        r"no store called embedded \(the default\); known are vaults",
    ),
    "an unknown issuer": (credential("", issuer="⟦issuer: admn"), "credentials.reader.issuer", "no issuer called admn; did you mean admin"),
    "an unknown target": (
        credential("targets: [laptop, ⟦laptp]"),
        "credentials.reader.targets[1]",
        "no target called laptp; did you mean laptop",
    ),
    "a target twice in a list": (credential("targets: [laptop, ⟦laptop]"), "credentials.reader.targets[1]", "twice"),
    "a store and path of two credentials": (
        credential("") + "  writer:\n    kind: rk\n    issuer: none\n    ⟦path: a/b\n",
        "credentials.writer.path",
        "reader has this path in store embedded already",
    ),
    "a target of two credentials": (
        credential("targets: [laptop]") + "  writer: {kind: rk, issuer: none, path: c, targets: [⟦laptop]}\n",
        "credentials.writer.targets[0]",
        "laptop is a target of reader already",
    ),
    "a place of two targets": (
        "targets:\n  a: {type: file, path: /k, content: key}\n  ⟦b: {type: file, path: /k, content: header}\n",
        "targets.b",
        "the same place as target a",
    ),
    "a file of two stores": ("stores:\n  a: {type: embedded}\n  ⟦b: {type: embedded}\n", "stores.b", "the same place as store a"),
    "a browser's key": (
        credential("", kind="⟦kind: pk"),
        "credentials.reader.kind",
        "needs a deploy of the site, so rotator does not rotate",
    ),
    "an unknown kind": (credential("", kind="⟦kind: xk"), "credentials.reader.kind", "must be rk, sk, ak or pk"),
    "sk without a reason": (credential("", kind="⟦kind: sk"), "credentials.reader.kind", "sk may do more than rk: say in `justification`"),
    "ak with an empty reason": (
        credential("⟦justification: ' '", kind="kind: ak"),
        "credentials.reader.justification",
        "ak may do more than rk",
    ),
    "a bad name of a credential": (
        "credentials:\n  ⟦Check_out: {kind: rk, path: a, issuer: none}\n",
        "credentials.Check_out",
        "a name is made of",
    ),
    "a name that is too long": (
        f"targets:\n  ⟦{'a' * 64}: {{type: file, path: /a, content: key}}\n",
        f"targets.{'a' * 64}",
        "63 characters",
    ),
    "a bad path": (credential("", path="⟦path: /a/b"), "credentials.reader.path", "must be a path such as"),
    "a bad environment of keys": (credential("⟦env: Live"), "credentials.reader.env", "lower-case letters and digits"),
    "a bad choice": (credential("⟦at_deadline: shrug"), "credentials.reader.at_deadline", "must be park or revoke"),
    "an endpoint that is not trusted": ("millimetric:\n  ⟦endpoint: https://api.example\n", "millimetric.endpoint", "trusted_endpoints"),
    "an endpoint without encryption": ("millimetric:\n  ⟦endpoint: http://api.millimetric.ai\n", "millimetric.endpoint", "http"),
    "a trusted endpoint without encryption": (
        "millimetric:\n  ⟦trusted_endpoints: ['http://api.example']\n",
        "millimetric.trusted_endpoints",
        "http",
    ),
    "a kind of store that does not exist": (
        "stores:\n  s:\n    ⟦type: embeded\n    url: x\n",
        "stores.s.type",
        "; did you mean embedded\\?$",
    ),
    "a store without a kind": ("stores:\n  ⟦s: {}\n", "stores.s", "needs a `type`: embedded or vault or aws"),
    "a kind of sign-in that does not exist": (
        "issuers:\n  s: {type: http, base_url: 'https://a.example', auth: {⟦type: basic}}\n",
        "issuers.s.auth.type",
        "must be one of bearer, session",
    ),
    "a token in the configuration": (
        "issuers:\n  s: {type: http, base_url: 'https://a.example', auth: {type: bearer, ⟦token: abc}}\n",
        "issuers.s.auth.token",
        "a token never stands in the configuration",
    ),
    "an unreadable token file": (
        "issuers:\n  s: {type: http, base_url: 'https://a.example', auth: {type: bearer, ⟦token_file: /nowhere/token}}\n",
        "issuers.s.auth.token_file",
        r"/nowhere/token cannot be read \(No such file",
    ),
    "a folder for a token file": (
        "issuers:\n  s: {type: http, base_url: 'https://a.example', auth: {type: bearer, ⟦token_file: /}}\n",
        "issuers.s.auth.token_file",
        "is a folder",
    ),
    "a variable that is not set": (
        "issuers:\n  s: {type: http, base_url: 'https://a.example', auth: {type: bearer, ⟦token_env: NOT_SET}}\n",
        "issuers.s.auth.token_env",
        "the environment variable NOT_SET is not set",
    ),
    "an unreadable master key": (
        "stores:\n  s:\n    type: embedded\n    master_key:\n      ⟦file: /nowhere/master.key\n",
        "stores.s.master_key.file",
        "cannot be read",
    ),
    "an unreadable hash of a token": (
        "server:\n  tokens:\n    - name: a\n      role: viewer\n      ⟦file: /nowhere/hash\n",
        "server.tokens[0].file",
        "cannot be read",
    ),
    "a port that is none": ("server: {⟦port: 70000}\n", "server.port", "must be at most 65535"),
    "an address that is none": ("server: {⟦bind: 'localhost:80'}\n", "server.bind", "must be an IP address"),
    "a port twice": ("metrics: {⟦port: 8700}\n", "metrics.port", "is the server's port"),
    "a role that is none": (
        f"server:\n  tokens:\n    - {{name: a, ⟦role: root, sha256: {'0' * 64}}}\n",
        "server.tokens[0].role",
        "must be hook, viewer, operator or admin",
    ),
    "a token in place of its hash": (
        "server:\n  tokens: [{name: a, role: viewer, ⟦sha256: letmein}]\n",
        "server.tokens[0].sha256",
        "64 hexadecimal digits, never the token itself",
    ),
    "a token without its hash": (
        "server:\n  tokens: [⟦{name: a, role: viewer}]\n",
        "server.tokens[0]",
        "exactly one of `sha256` and `file`",
    ),
    "a token's name twice": (
        f"server:\n  tokens:\n    - {{name: a, role: viewer, sha256: {'0' * 64}}}\n    - {{⟦name: a, role: admin, sha256: {'1' * 64}}}\n",
        "server.tokens[1].name",
        "twice",
    ),
    "an unknown client": (
        "targets:\n  t: {type: file, ⟦client: emacs}\n",
        "targets.t.client",
        "no MCP client called 'emacs'; known are claude-code",
    ),
    "a file without content": ("targets:\n  ⟦t: {type: file, path: /k}\n", "targets.t", "exactly one of `content`"),
    "a file with two contents": (
        "targets:\n  t: {type: file, path: /k, content: key, ⟦client: cursor}\n",
        "targets.t.client",
        "client stands beside content",
    ),
    "a file without a path": ("targets:\n  ⟦t: {type: file, content: key}\n", "targets.t", "needs a `path`"),
    "a relative path of a target": ("targets:\n  t: {type: file, ⟦path: k, content: key}\n", "targets.t.path", "absolute"),
    "a template without a key": ("targets:\n  t: {type: file, path: /k, ⟦template: hello}\n", "targets.t.template", r"holds \{key\}"),
    "a template with an unknown placeholder": (
        "targets:\n  t: {type: file, path: /k, ⟦template: '{key} {kid}'}\n",
        "targets.t.template",
        r"only \{key_id\} and \{endpoint\}",
    ),
    "an unknown kind of issuer": (
        "issuers:\n  s: {⟦type: pol, path: p}\n",
        "issuers.s.type",
        r"type must be http or pool or manual or command; did you mean pool\?",
    ),
    "a pool without a path": ("issuers:\n  ⟦s: {type: pool}\n", "issuers.s.path", "is required"),
    "a setting of another kind of issuer": (
        "issuers:\n  s: {type: pool, path: p, ⟦inbox: x}\n",
        "issuers.s.inbox",
        "is a setting of type manual, not of type pool$",
    ),
    "a setting of another way to sign in": (
        "stores:\n  v: {type: vault, address: 'https://v', auth: {type: token, ⟦token_file: /x}}\n",
        "stores.v.auth.token_file",
        "is a setting of type token-file, not of type token$",
    ),
    "a slip in a setting of one kind among many": (
        "stores:\n  v: {type: vault, address: 'https://v', auth: {type: token, ⟦token_evn: X}}\n",
        "stores.v.auth.token_evn",
        r"is not a setting; did you mean token_env\?$",
    ),
    "a pool in an unknown store": (
        "issuers:\n  s: {type: pool, path: p, ⟦store: vault}\n",
        "issuers.s.store",
        "no store called vault; known are embedded",
    ),
    "a pool at a credential's path": (
        "credentials: {reader: {kind: rk, path: a/b, issuer: none}}\nissuers:\n  s: {type: pool, ⟦path: a/b}\n",
        "issuers.s.path",
        "credential reader has a/b in store embedded already",
    ),
    "two pools at one path": (
        "issuers:\n  r: {type: pool, path: p}\n  s: {type: pool, ⟦path: p}\n",
        "issuers.s.path",
        "issuer r has p in store embedded already",
    ),
    "an inbox at a credential's path": (
        "credentials: {reader: {kind: rk, path: in/reader, issuer: s}}\nissuers:\n  s: {type: manual, ⟦inbox: 'in/{credential}'}\n",
        "issuers.s.inbox",
        "credential reader has in/reader in store embedded already",
    ),
    "one inbox for all": ("issuers:\n  s: {type: manual, ⟦inbox: in}\n", "issuers.s.inbox", r"must have \{credential\} in it once"),
    "an inbox with odd braces": ("issuers:\n  s: {type: manual, ⟦inbox: 'in/{credential}/{x}'}\n", "issuers.s.inbox", "no other braces"),
    "a command that is no list": ("issuers:\n  s: {type: command, ⟦command: mint-key}\n", "issuers.s.command", "must be a list"),
    "an empty command": ("issuers:\n  s: {type: command, ⟦command: []}\n", "issuers.s.command", "must not be empty"),
    "a command at a relative path": (
        "issuers:\n  s: {type: command, ⟦command: [bin/mint-key]}\n",
        "issuers.s.command",
        "absolute path, or a name that is found in PATH",
    ),
    "a command that may take long": (
        "issuers:\n  s: {type: command, command: [mint-key], ⟦timeout: 11s}\n",
        "issuers.s.timeout",
        "at most 10s",
    ),
    "a variable with its content": (
        "issuers:\n  s: {type: command, command: [mint-key], environment: [⟦A=b]}\n",
        "issuers.s.environment[0]",
        "name of an environment variable, not its content",
    ),
    "a cap below its base": ("engine: {step_base: 1m, ⟦urgent_cap: 10s, step_cap: 2m}\n", "engine.urgent_cap", "must not be shorter"),
    "a key that stands twice": ("engine: {workers: 4}\nlog: {}\n⟦engine: {workers: 5}\n", "engine", "a second time; first on line 1"),
    "a merge": ("log: &a {level: info}\nserver: {⟦<<: *a}\n", "server", "merging with << is not taken"),
    "an alias to itself": ("⟦log: &a {level: *a}\n", "log.level", "refers to itself"),
    "a tag": ("log: {level: ⟦!!binary aW5mbw==}\n", "log.level", "the tag 'binary' is not taken"),
    "a colon that is missing": ("engine:\n  workers: 4\n  ⟦lease\nlog: {}\n", "", "is not YAML: .*could not find expected ':'"),
    "a bracket that is not closed": ("credentials: {a: [b\n⟦", "", "is not YAML"),
    "a tab": ("engine:\n⟦\tworkers: 4\n", "", "is not YAML: .*token"),
    "a list at the top": ("⟦- credentials\n", "", "must be a mapping at its top level"),
    "text at the top": ("⟦credentials\n", "", "must be a mapping at its top level"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_message_at_its_place(what: str, tmp_path: Path) -> None:
    text, path, rule = MISTAKES[what]
    file, (line, column) = write(tmp_path, text)

    problems = find_problems(file, {"ADMIN_TOKEN": "x", "T": "x"})

    assert len(problems) == 1, problems
    assert (problems[0].origin.source, problems[0].path) == (str(file), path)
    assert re.search(rule, problems[0].rule)
    if what != "an alias to itself":  # PyYAML reports an alias at its anchor
        assert (problems[0].origin.line, problems[0].origin.column) == (line, column)


def test_the_credential_of_the_table_is_right(tmp_path: Path) -> None:
    assert load(tmp_path, credential("targets: [laptop]"), {"ADMIN_TOKEN": "x"}).warnings == ()


def test_all_mistakes_come_at_once_and_by_line(tmp_path: Path) -> None:
    text = """
    installation: Our Company
    engine: {workers: none, wrokers: 3}
    credentials:
      one: {kind: pk, path: a, issuer: none}
      two: {kind: sk, path: b, issuer: none, targets: [nowhere]}
      three: {kind: rk, path: b, issuer: nobody, rotation: {every: 1d, jitter: 2d}}
    """
    problems = find_problems(write(tmp_path, text)[0])
    assert [(problem.origin.line, problem.path) for problem in problems] == [
        (1, "installation"),
        (2, "engine.workers"),
        (2, "engine.wrokers"),
        (4, "credentials.one.kind"),
        (5, "credentials.two.kind"),
        (5, "credentials.two.targets[0]"),
        (6, "credentials.three.path"),
        (6, "credentials.three.issuer"),
        (6, "credentials.three.rotation.jitter"),
    ]


def test_what_is_wrong_by_itself_exists_all_the_same(tmp_path: Path) -> None:
    text = """
    stores:
      embedded: {type: embedded, paht: x}
    targets:
      laptop: {type: file, client: emacs}
    credentials:
      one: {kind: rk, path: a, issuer: none, targets: [laptop]}
    """
    assert [problem.path for problem in find_problems(write(tmp_path, text)[0])] == ["stores.embedded.paht", "targets.laptop.client"]


@pytest.mark.parametrize(
    "text",
    [
        "credentials:\n  reader: {{kind: rk, issuer: none, path: ⟦{key}}}\n",
        "credentials:\n  ⟦{key}: {{kind: rk, issuer: none, path: a}}\n",
        "credentials:\n  reader: {{kind: rk, issuer: ⟦{key}, path: a}}\n",
        "credentials:\n  reader: {{kind: rk, issuer: none, path: a, rotation: {{every: ⟦{key}}}}}\n",
        "# the key: ⟦{key}\nlog: {{level: info}}\n",
        "⟦{key}: x\n",
        "targets:\n  t: {{type: file, path: /x, template: 'Bearer ⟦{key}'}}\n",
        "- ⟦{key}\n",
        "log: {{level: '⟦{key}\n",
        "log: {{level: !{key} x, format: ⟦{key}}}\n",
    ],
)
@pytest.mark.keeps_keys
def test_a_key_in_the_file_is_refused_and_never_repeated(text: str, tmp_path: Path) -> None:
    key = make_key()
    file, (line, column) = write(tmp_path, text.format(key=key))
    problems = find_problems(file)
    found = [problem for problem in problems if "a full key stands here" in problem.rule]
    assert found
    assert [problem for problem in problems if problem.origin.line == line] == found
    assert key[len("rk_live_12345678_") :] not in "\n".join(map(str, problems))
    assert (found[-1].origin.line, found[-1].origin.column) == (line, column)
    assert key[: len("rk_live_12345678")] in found[0].rule


def test_a_path_that_only_looks_like_a_key_is_taken(tmp_path: Path) -> None:
    text = "credentials:\n  reader: {kind: rk, issuer: none, path: rk_live_checkout_read}\n"
    assert load(tmp_path, text).settings.credentials["reader"].path == "rk_live_checkout_read"
