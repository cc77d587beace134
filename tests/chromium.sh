#!/bin/sh
# Prints the path of a Chromium that starts. Installs one where none is found: Debian's package as root, else
# playwright's own download. Prints nothing, and the reason on stderr, where there is none to be had.

starts() { "$1" --version >/dev/null 2>&1; }

installed() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if path=$(command -v "$name") && starts "$path"; then
            echo "$path"
            return 0
        fi
    done
    return 1
}

of_debian() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    echo "No Chromium found: installing Debian's package." >&2
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install -y --no-install-recommends chromium fonts-dejavu-core; } >&2
}

of_playwright() {
    executable='from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)'
    path=$(.venv/bin/python -c "$executable") || return 1
    if ! starts "$path"; then
        echo "No Chromium found: downloading playwright's." >&2
        .venv/bin/playwright install chromium >&2 && starts "$path" || return 1
    fi
    echo "$path"
}

installed && exit
of_debian && installed && exit
of_playwright && exit
cat >&2 <<'REASON'

*** THE BROWSER TESTS ARE SKIPPED: no Chromium is installed, Debian's package needs root and apt-get, and playwright's
*** download failed. Install chromium or google-chrome, or set GPTVIZ_CHROMIUM to its path.

REASON
