"""Pages that list folders, as Apache, nginx and Python write them, and lists that lie beside files."""

import pytest

from sparkneuro.data.download.http_listing import Unreachable, list_url, look_up
from sparkneuro.data.download.patience import Patience
from sparkneuro.errors import FormatError

FAST = Patience(retries=1, first_wait=0.001, longest_wait=0.002, timeout=0.4)
APACHE = """<!DOCTYPE HTML><html><head><title>Index of /d</title></head><body><table>
<tr><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th></tr>
<tr><td><a href="/">Parent Directory</a></td><td>&nbsp;</td></tr>
<tr><td><a href="sub-01/">sub-01/</a></td><td align="right">2024-03-01 10:11  </td><td>  - </td></tr>
<tr><td><a href="participants.tsv">participants.tsv</a></td><td align="right">2024-03-01 10:11  </td><td>1.2K</td></tr>
</table><a href="https://example.org/d/elsewhere.txt">mirror</a> <a href="../above.txt">above</a></body></html>"""
NGINX = """<html><head><title>Index of /d/sub-01/</title></head><body><h1>Index</h1><hr><pre><a href="../">../</a>
<a href="sub-01_task-a%20b_bold.nii.gz">sub-01_task-a b_bold.n..&gt;</a>   01-Mar-2024 10:11   30000
<a href="/d/sub-01/absolute.tsv#top">absolute.tsv</a>   01-Mar-2024 10:12   7
</pre><hr></body></html>"""


def page(text):
    return {"status": 200, "body": text.encode(), "headers": {"Content-Type": "text/html"}}


def test_links_below_the_folder_are_its_files_and_nothing_else_is(server):
    server.faults["d/"] = [page(APACHE)]
    server.faults["d/sub-01/"] = [page(NGINX)]
    found = {entry["path"]: entry for entry in list_url(f"{server.url}/d/", patience=FAST)}
    assert set(found) == {"participants.tsv", "sub-01/sub-01_task-a b_bold.nii.gz", "sub-01/absolute.tsv"}
    assert found["participants.tsv"]["stamp"] == "2024-03-01 10:11 1.2K"
    assert found["sub-01/sub-01_task-a b_bold.nii.gz"]["stamp"] == "01-Mar-2024 10:11 30000"
    assert found["sub-01/sub-01_task-a b_bold.nii.gz"]["url"] == f"{server.url}/d/sub-01/sub-01_task-a%20b_bold.nii.gz"


def test_folders_that_lead_in_a_circle_are_listed_once(server):
    server.faults["d/"] = [page('<a href="/d/a/">a</a>')]
    server.faults["d/a/"] = [page('<a href="/d/a/">self</a><a href="/d/a/b/">b</a>')]
    server.faults["d/a/b/"] = [page('<a href="/d/a/b/x.txt">x</a><a href="/d/a/">a</a>')]
    assert [entry["path"] for entry in list_url(f"{server.url}/d/", patience=FAST)] == ["a/b/x.txt"]


@pytest.mark.parametrize("link", ["..%2f..%2fetc%2fpasswd", "%2e%2e/up.txt", "a/../../up.txt"])
def test_links_that_climb_stay_what_they_are_for_the_check_of_names(server, link):
    server.faults["d/"] = [page(f'<a href="{link}">x</a><a href="a.txt">a</a>')]
    found = [entry["path"] for entry in list_url(f"{server.url}/d/", patience=FAST)]
    assert "a.txt" in found and not [path for path in found if not path.startswith("..") and "up" in path]


def test_size_and_version_are_looked_up_and_need_not_be_told(server):
    server.files["a.txt"] = b"12345"
    found = look_up(server.entry("a.txt"), FAST)
    assert found["size"] == 5 and len(found["etag"]) == 16
    server.head = False
    assert look_up(server.entry("a.txt"), FAST) == server.entry("a.txt")


def test_a_folder_without_pages_and_lists_is_an_error_that_says_what_helps(server):
    server.lists = False
    server.files["d/a.txt"] = b"1"
    with pytest.raises(FormatError, match="neither a page that lists files is there nor a SHA256SUMS; name a list with"):
        list_url(f"{server.url}/d/", patience=FAST)


def test_a_server_that_does_not_answer_is_not_an_empty_folder(server):
    server.faults["d/"] = [{"status": 502}] * 9
    with pytest.raises(Unreachable, match="/d/: the server answered 502; tried 2 times"):
        list_url(f"{server.url}/d/", patience=FAST)


def test_a_page_that_was_refused_once_is_asked_for_again(server):
    server.files["d/sub-01/a.txt"] = b"1"
    server.faults["d/"] = [{"status": 429, "headers": {"Retry-After": "0"}}, {"status": 503}]
    assert [entry["path"] for entry in list_url(f"{server.url}/d", patience=FAST)] == ["sub-01/a.txt"]
