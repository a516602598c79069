import base64, email.utils, hashlib, hmac, json, sys, urllib.error, urllib.parse, urllib.request
import xml.etree.ElementTree as tree

endpoint, access, secret, act, bucket = sys.argv[1:6]
arguments = sys.argv[6:]


def request(method, key="", query=None, headers=None, body=None):
    """The body of an answer."""
    return ask(method, key, query, headers, body).read()


def ask(method, key="", query=None, headers=None, body=None):
    """One request; `query` holds sub-resources that are signed, and `prefix` or `key-marker`, which are not."""
    query, headers, date = query or {}, headers or {}, email.utils.formatdate(usegmt=True)
    path = "/" + bucket + ("/" + urllib.parse.quote(key) if key else "")
    signed = [name + ("=" + query[name] if query[name] else "")
              for name in sorted(query) if name in ("policy", "versionId", "versions")]
    text = f"{method}\n\n\n{date}\n" + "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    text += path + ("?" + "&".join(signed) if signed else "")
    signature = base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()
    url = endpoint + path + ("?" + urllib.parse.urlencode(query) if query else "")
    sent = urllib.request.Request(url, method=method, data=body)
    for name, value in {**headers, "Date": date, "Authorization": f"AWS {access}:{signature}"}.items():
        sent.add_header(name, value)
    if body is not None:
        sent.add_header("Content-Type", "")
    return urllib.request.urlopen(sent)


def versions(kinds=("Version", "DeleteMarker")):
    """Every version and every delete marker: key and id; the versions of a key are the newest first."""
    marker = {}
    while True:
        page = tree.fromstring(request("GET", query={"versions": "", **marker}))
        space = page.tag.removesuffix("ListVersionsResult")
        for kind in kinds:
            for found in page.iter(space + kind):
                yield found.findtext(space + "Key"), found.findtext(space + "VersionId")
        if page.findtext(space + "IsTruncated") != "true":
            return
        marker = {"key-marker": page.findtext(space + "NextKeyMarker"),
                  "version-id-marker": page.findtext(space + "NextVersionIdMarker")}


if act == "bucket":
    request("PUT", headers={"x-amz-bucket-object-lock-enabled": arguments[0]})
elif act == "forbid-deleting":
    policy = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Principal": {"AWS": ["arn:aws:iam:::user/e2e"]},
         "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"], "Resource": [f"arn:aws:s3:::{bucket}/*"]}]}
    # Who puts an object owns it: the bucket's owner may read those of others by this policy only.
    reading = ("e2e", ["s3:GetObject", "s3:GetObjectVersion"])
    for user, actions in [(other, ["s3:*"]) for other in arguments] + ([reading] if arguments else []):
        policy["Statement"].append(
            {"Effect": "Allow", "Principal": {"AWS": [f"arn:aws:iam:::user/{user}"]}, "Action": actions,
             "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]})
    request("PUT", query={"policy": ""}, body=json.dumps(policy).encode())
elif act == "let-delete":
    request("DELETE", query={"policy": ""})
elif act == "list":
    for key, _ in versions():
        print(key)
elif act == "put":
    request("PUT", arguments[0], body=arguments[1].encode())
elif act == "delete":
    request("DELETE", arguments[0])
elif act == "locks":
    for key, version in versions(("Version",)):
        headers = ask("HEAD", key, {"versionId": version}).headers
        print(headers.get("x-amz-object-lock-retain-until-date", "-"), key)
elif act == "delete-all":
    for key, version in list(versions()):
        try:
            request("DELETE", key, {"versionId": version})
            print("gone", key)
        except urllib.error.HTTPError as error:
            print("refused", key)
            assert error.code == 403, error
elif act == "cover-all":
    how, prefix = arguments
    for key in sorted({key for key, _ in versions() if key.startswith(prefix)}):
        if how == "marker":
            request("DELETE", key)
        else:
            request("PUT", key, body=b"something else")
