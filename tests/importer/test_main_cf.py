"""main.cf and the output of postconf: lines, lists, and expansion."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from relay.importer import main_cf
from relay.importer.draft import ImportFailed, Origin
from relay.importer.main_cf import MainCf, split_list
from tests.peers import needs


def parsed(text: str) -> MainCf:
    return main_cf.parse(text, "main.cf", None)


def test_lines_continue_and_comments_do_not_count() -> None:
    read = parsed("# c\nmynetworks = 10.0.0.0/8\n\n# c\n   192.0.2.0/24,\n\t::1\nbiff=no\n")
    assert read.get("mynetworks") == "10.0.0.0/8 192.0.2.0/24, ::1"
    assert read.origin("mynetworks") == Origin("mynetworks", "main.cf:2")
    assert read.origin("biff") == Origin("biff", "main.cf:7")
    assert read.origin("relayhost") == Origin("Postfix's default of relayhost", "")


EXPANDED = [
    ("$one", "1"),
    ("$(one)${one}", "11"),
    ("$one.$two", "1.2"),
    ("$none", ""),
    ("$$one", "$one"),
    ("${one?yes}${none?no}", "yes"),
    ("${one:no}${none:yes}", "yes"),
    ("${one?{yes}:{no}}", "yes"),
    ("${none?{yes}:{no $two}}", "no 2"),
    ("${{$one} == {1} ? {yes} : {no}}", "yes"),
    ("${{$one} != {1} ? {yes} : {no}}", "no"),
    ("$mydomain", "a.example"),
    ("$itself", ""),
    ("$loop", ""),
    ("5$", "5$"),
]


@pytest.mark.parametrize(("text", "value"), EXPANDED)
def test_parameters_in_values(text: str, value: str) -> None:
    read = parsed(
        f"myhostname = mx.a.example\none = 1\ntwo = 2\nitself = $itself\nloop = $pool\npool = $loop\nx = {text}\n"
    )
    assert read.get("x") == value


@needs("postfix")
@pytest.mark.parametrize("text", [text for text, _ in EXPANDED if text not in ("$itself", "$loop", "5$")])
def test_postfix_expands_them_alike(tmp_path: Path, text: str) -> None:
    content = f"compatibility_level = 3.6\nmyhostname = mx.a.example\none = 1\ntwo = 2\nnone =\nrelayhost = {text}\n"
    (tmp_path / "main.cf").write_text(content)
    (tmp_path / "master.cf").write_text("")
    command = ["postconf", "-c", str(tmp_path), "-xh", "relayhost"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert parsed(content).get("relayhost") == output.strip()


def test_values_that_multiply_end() -> None:
    text = "".join(f"p{n} = $p{n + 1}$p{n + 1}$p{n + 1}$p{n + 1}\n" for n in range(6))
    with pytest.raises(ImportFailed, match="longer than"):
        parsed(f"{text}p6 = {'x' * 1000}\n").get("p0")


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("a, b  c,d", ["a", "b", "c", "d"]),
        ("hash:/a, inline:{ a=b, {c = d e} } x", ["hash:/a", "inline:{ a=b, {c = d e} }", "x"]),
        ("", []),
    ],
)
def test_lists(value: str, items: list[str]) -> None:
    assert split_list(value) == items


def test_the_output_of_postconf_from_a_file_and_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = "postconf: warning: /etc/postfix/main.cf: unused parameter: x=y\nmyhostname = mx.a.example\n"
    (tmp_path / "postconf.txt").write_text(text)
    assert main_cf.read(tmp_path / "postconf.txt").origin("myhostname").where == f"{tmp_path}/postconf.txt:2"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main_cf.read(Path("-")).origin("myhostname").where == "postconf -n"


def test_paths_are_found_in_a_copied_folder(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("myhostname = mx.a.example\n")
    (tmp_path / "virtual").write_text("")
    read = main_cf.read(tmp_path)
    assert read.path("/etc/postfix/virtual") == tmp_path / "virtual"
    assert read.path("/etc/postfix/none") == Path("/etc/postfix/none")
    assert read.path("/etc/aliases") == Path("/etc/aliases")


def test_ports_of_smtpd_in_master_cf(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("myhostname = mx.a.example\n")
    assert main_cf.read(tmp_path).services("inet") == []
    (tmp_path / "master.cf").write_text(
        "smtp inet n - y - - smtpd\n#x inet n - y - - smtpd\n127.0.0.1:465 inet n - y - - smtpd\n  -o a=b\n"
        "pickup unix n - y 60 1 pickup\n"
    )
    read = main_cf.read(tmp_path)
    assert [service.name for service in read.services("inet")] == ["smtp", "127.0.0.1:465"]
    assert read.of_service(read.services("inet")[1]).get("a") == "b"
    assert read.get("a") == ""


@pytest.mark.parametrize("text", ["", "# c\n", "root:x:0:0\n", "Syslog yes\n", "a b = c\n"])
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ImportFailed, match=r"^main\.cf.*: (?:this is neither|there is no parameter).*$"):
        parsed(text)
