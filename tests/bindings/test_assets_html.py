from __future__ import annotations

import pytest

from bindings.assets.html import Redirect, Serve, resolve

FILES = {
    "/index.html",
    "/file.html",
    "/folder/index.html",
    "/both.html",
    "/both/index.html",
    "/bin",
    "/dir/bin.html",
    "/404.html",
    "/dir/404.html",
    "/raw/index",
}

# path, and what each html_handling answers: a file, "-> location", or None
TABLE = [
    # path                auto-trailing-slash     force-trailing-slash    drop-trailing-slash     none
    ("/",                 "/index.html",          "/index.html",          "/index.html",          None),
    ("/index.html",       "-> /",                 "-> /",                 "-> /",                 "/index.html"),
    ("/index",            "-> /",                 "-> /",                 "-> /",                 None),
    ("/file",             "/file.html",           "-> /file/",            "/file.html",           None),
    ("/file.html",        "-> /file",             "-> /file/",            "-> /file",             "/file.html"),
    ("/file/",            "-> /file",             "/file.html",           "-> /file",             None),
    ("/file/index",       "-> /file",             "-> /file/",            "-> /file",             None),
    ("/file/index.html",  "-> /file",             "-> /file/",            "-> /file",             None),
    ("/folder",           "-> /folder/",          "-> /folder/",          "/folder/index.html",   None),
    ("/folder/",          "/folder/index.html",   "/folder/index.html",   "-> /folder",           None),
    ("/folder/index",     "-> /folder/",          "-> /folder/",          "-> /folder",           None),
    ("/folder/index.html", "-> /folder/",         "-> /folder/",          "-> /folder",           "/folder/index.html"),
    ("/folder.html",      "-> /folder/",          "-> /folder/",          "-> /folder",           None),
    ("/both",             "/both.html",           "-> /both/",            "/both.html",           None),
    ("/both/",            "/both/index.html",     "/both/index.html",     "-> /both",             None),
    ("/both.html",        "-> /both",             "/both.html",           "-> /both",             "/both.html"),
    ("/both/index.html",  "-> /both/",            "-> /both/",            "/both/index.html",     "/both/index.html"),
    ("/bin",              "/bin",                 "/bin",                 "/bin",                 "/bin"),
    ("/bin/",             None,                   None,                   None,                   None),
    ("/raw/index",        "/raw/index",           "/raw/index",           "/raw/index",           "/raw/index"),
    ("/missing",          None,                   None,                   None,                   None),
    ("/missing.html",     None,                   None,                   None,                   None),
    ("/{}",               None,                   None,                   None,                   None),
]  # fmt: skip
MODES = ("auto-trailing-slash", "force-trailing-slash", "drop-trailing-slash", "none")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_html_handling_answers_as_cloudflare(row, mode):
    expected = row[1 + MODES.index(mode)]
    found = resolve(row[0], mode, "none", FILES.__contains__)
    if expected is None:
        assert found is None
    elif expected.startswith("-> "):
        assert found == Redirect(expected.removeprefix("-> "))
    else:
        assert found == Serve(expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", [row[0] for row in TABLE])
def test_redirects_never_lead_to_another_redirect(path, mode):
    found = resolve(path, mode, "none", FILES.__contains__)
    if isinstance(found, Redirect):
        assert isinstance(resolve(found.to, mode, "none", FILES.__contains__), Serve)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/missing", Serve("/404.html", 404)),
        ("/dir/missing", Serve("/dir/404.html", 404)),
        ("/dir/deeper/missing/", Serve("/dir/404.html", 404)),
        ("/other/missing", Serve("/404.html", 404)),
        ("/file", Serve("/file.html")),
    ],
)
def test_nearest_404_page_answers_what_is_missing(path, expected):
    assert resolve(path, "auto-trailing-slash", "404-page", FILES.__contains__) == expected


def test_single_page_application_answers_with_its_page():
    spa = "single-page-application"
    assert resolve("/any/route", "auto-trailing-slash", spa, FILES.__contains__) == Serve("/index.html")
    assert resolve("/any/route", "auto-trailing-slash", spa, {"/x"}.__contains__) is None
    assert resolve("/any", "auto-trailing-slash", "404-page", {"/x"}.__contains__) is None
