"""Logs in to the admin site as a browser does, adds a group and logs out: `python3 django_admin.py URL`."""
import http.cookiejar
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

base = sys.argv[1]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
cookies = http.cookiejar.CookieJar()
opener = urllib.request.build_opener(
    urllib.request.HTTPCookieProcessor(cookies), urllib.request.HTTPSHandler(context=context)
)


def page(path, **form):
    """Requests a page, or submits a form. Returns the path after redirects, and the page."""
    headers = {}
    data = None
    if form:
        # Django compares Origin and Referer with the scheme and host that it received from the proxy.
        headers = {"Origin": base, "Referer": base + path}
        data = urllib.parse.urlencode({"csrfmiddlewaretoken": token, **form}).encode()
    with opener.open(urllib.request.Request(base + path, data, headers), timeout=20) as response:
        assert response.url.startswith(base), response.url
        return response.url[len(base):], response.read().decode()


path, text = page("/admin/")
assert path == "/admin/login/?next=/admin/", path
styles = re.findall(r'<link[^>]* href="([^"]+\.css)"', text)
assert styles and all(page(style)[1] for style in styles), styles
token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', text)[1]
_, text = page(path, username="boss", password="wrong")
assert "errornote" in text
path, text = page(path, username="boss", password="password of the test")
assert path == "/admin/" and "Site administration" in text, path
token = next(cookie.value for cookie in cookies if cookie.name == "csrftoken")
path, text = page("/admin/auth/group/add/", name="editors")
assert path == "/admin/auth/group/" and "was added successfully" in text, (path, text)
page("/admin/logout/", logout="1")
assert page("/admin/auth/user/")[0].startswith("/admin/login/")
print("logged in, added a group, logged out")
