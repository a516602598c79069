"""Objects of a bucket, by hand: keys, get, put, delete; signature version 4."""
import configparser, datetime, hashlib, hmac, os, sys, urllib.parse, urllib.request
import xml.etree.ElementTree as tree

endpoint, region, bucket, act, argument = sys.argv[1:6]
keys = configparser.ConfigParser()
keys.read_string(os.environ["CREDENTIALS"])
access, secret = keys["default"]["aws_access_key_id"], keys["default"]["aws_secret_access_key"]


def request(method, key="", query=None, body=b""):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    path = "/" + bucket + ("/" + urllib.parse.quote(key) if key else "")
    query = urllib.parse.urlencode(sorted((query or {}).items()), quote_via=urllib.parse.quote, safe="")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": urllib.parse.urlsplit(endpoint).netloc, "x-amz-content-sha256": digest, "x-amz-date": now}
    names = ";".join(headers)
    lines = [method, path, query, *(f"{name}:{value}" for name, value in headers.items()), "", names, digest]
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
    step = ("AWS4" + secret).encode()
    for word in scope.split("/"):
        step = hmac.new(step, word.encode(), hashlib.sha256).digest()
    signature = hmac.new(step, text.encode(), hashlib.sha256).hexdigest()
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={access}/{scope},SignedHeaders={names},Signature={signature}"
    url = endpoint + path + ("?" + query if query else "")
    sent = urllib.request.Request(url, method=method, data=body if method == "PUT" else None, headers=headers)
    return urllib.request.urlopen(sent).read()


if act == "keys":
    page = tree.fromstring(request("GET", query={"list-type": "2", "prefix": argument}))
    space = page.tag.removesuffix("ListBucketResult")
    assert page.findtext(space + "IsTruncated") != "true", "more than a page"
    for found in page.iter(space + "Contents"):
        print(found.findtext(space + "Size"), found.findtext(space + "Key"))
elif act == "get":
    sys.stdout.buffer.write(request("GET", argument))
elif act == "put":
    request("PUT", argument, body=sys.stdin.buffer.read())
elif act == "delete":
    request("DELETE", argument)
