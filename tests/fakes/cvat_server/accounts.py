"""Users, how they prove who they are, and their organizations."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime

from fakes.cvat_server.lists import listing
from fakes.cvat_server.permissions import deny
from fakes.cvat_server.routing import ApiError, Context, Reply, require, route
from fakes.cvat_server.state import AccessToken, Membership, Organization, Row, User

SAFE = ("GET", "HEAD", "OPTIONS")


def identify(ctx: Context) -> User | None:
    """Who sends the request; None for nobody in particular."""
    kind, _, value = ctx.headers.get("authorization", "").partition(" ")
    state = ctx.state
    if not kind:
        return None
    if kind.lower() == "basic":
        name, _, password = base64.b64decode(value).decode().partition(":")
        user = state.user_named(name)
        if user is None or user.password != password:
            raise ApiError(401, "Invalid username/password.")
        return user
    # facts/cvat.md (c) Auth: the token of a login goes with the word Token
    if kind.lower() == "token":
        if value not in state.login_tokens:
            raise ApiError(401, "Invalid token.")
        return state.users[state.login_tokens[value]]
    if kind.lower() == "bearer" and ctx.version.has_access_tokens:
        return _bearer(ctx, value)
    return None


def _bearer(ctx: Context, value: str) -> User:
    token = next((t for t in ctx.state.access_tokens.values() if t.value == value), None)
    if token is None or (token.expiry and _when(token.expiry) <= datetime.now(UTC)):
        raise ApiError(401, "Invalid token.")
    # facts/cvat.md (c) Auth: a read_only token is for GET, HEAD and OPTIONS
    if token.read_only and ctx.method not in SAFE:
        raise deny()
    token.last_used = ctx.state.now()
    ctx.with_access_token = True
    return ctx.state.users[token.owner]


def _when(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def choose_organization(ctx: Context) -> None:
    """The organization that the request names, in a header or in the query."""
    # facts/cvat.md (c) Auth: X-Organization, or ?org=
    slug = ctx.headers.get("x-organization", ctx.query.get("org"))
    if slug is None and ctx.query.get("org_id", "").isdigit():
        found = ctx.state.orgs.get(int(ctx.query["org_id"]))
        slug = found.slug if found else ctx.query["org_id"]
    if slug is None:
        return
    ctx.org_given = True
    if not slug:
        return
    ctx.org = ctx.state.org_named(slug)
    if ctx.org is None:  # not in the facts
        raise ApiError(404, f"{slug} organization does not exist.")
    if not ctx.user.is_superuser and ctx.state.role(ctx.user.id, ctx.org.id) is None:
        raise deny()


def basic_user(ctx: Context, number: int | None) -> Row | None:
    if number is None:
        return None
    user = ctx.state.users[number]
    url = f"{ctx.base}/api/users/{user.id}"
    return {"url": url, "id": user.id, "username": user.name, "first_name": "", "last_name": ""}


def _full_user(ctx: Context, user: User) -> Row:
    more = {
        "email": f"{user.name}@example.org",
        "groups": ["admin"] if user.is_superuser else ["user"],
        "is_staff": user.is_superuser,
        "is_superuser": user.is_superuser,
        "is_active": True,
        "last_login": None,
        "date_joined": "2026-01-01T00:00:00Z",
    }
    return {**(basic_user(ctx, user.id) or {}), **more}


@route("POST", "/api/auth/login", anonymous=True)
def login(ctx: Context) -> Reply:
    body = ctx.json
    user = ctx.state.user_named(str(body.get("username")))
    if user is None or user.password != body.get("password"):
        raise ApiError(400, {"non_field_errors": ["Unable to log in with provided credentials."]})
    key = next((k for k, owner in ctx.state.login_tokens.items() if owner == user.id), secrets.token_hex(20))
    ctx.state.login_tokens[key] = user.id
    return Reply(200, {"key": key})


@route("POST", "/api/auth/register", anonymous=True)
def register(ctx: Context) -> Reply:
    """Where registration is open, as it is unless an operator shuts it."""
    body, state = ctx.json, ctx.state
    require(body, "username", "email", "password1", "password2")
    # seen on 2.15
    if len(body["username"]) < 5:
        raise ApiError(400, {"username": ["Ensure this field has at least 5 characters."]})
    if state.user_named(body["username"]):
        raise ApiError(400, {"username": ["A user with that username already exists."]})
    number, key = state.new_id("user"), secrets.token_hex(20)
    state.users[number] = User(number, body["username"], body["password1"])
    state.login_tokens[key] = number
    return Reply(201, {"username": body["username"], "email": body["email"], "key": key})


@route("DELETE", "/api/users/{id}")
def delete_user(ctx: Context, number: int) -> Reply:
    if not ctx.user.is_superuser:
        raise deny()
    if number not in ctx.state.users:
        raise ApiError(404, "Not found.")
    del ctx.state.users[number]
    return Reply(204)


def _sees(ctx: Context, user: User) -> bool:
    # facts/cvat.md (c) Permissions: outside an organization only administrators see others
    if ctx.user.is_superuser and ctx.org is None:
        return True
    if ctx.org is not None:
        return ctx.state.role(user.id, ctx.org.id) is not None
    return user.id == ctx.user.id


@route("GET", "/api/users")
def list_users(ctx: Context) -> Reply:
    terms = {"id": lambda u: u.id, "username": lambda u: u.name}
    simple = {"search": lambda u: u.name if ctx.query["search"].lower() not in u.name.lower() else ctx.query["search"]}
    found = [user for user in ctx.state.users.values() if _sees(ctx, user)]

    def render(user: User) -> Row:
        return _full_user(ctx, user) if ctx.user.is_superuser else basic_user(ctx, user.id) or {}

    return listing(ctx, found, terms, render, simple=simple)


@route("GET", "/api/users/self")
def self_user(ctx: Context) -> Reply:
    return Reply(200, _full_user(ctx, ctx.user))


@route("GET", "/api/users/{id}")
def one_user(ctx: Context, number: int) -> Reply:
    user = ctx.state.users.get(number)
    if user is None:
        raise ApiError(404, "Not found.")
    if not _sees(ctx, user):
        raise deny()
    full = ctx.user.is_superuser or user.id == ctx.user.id
    return Reply(200, _full_user(ctx, user) if full else basic_user(ctx, user.id))


def _token_row(ctx: Context, token: AccessToken) -> Row:
    return {
        "id": token.id,
        "name": token.name,
        "created_date": token.created,
        "updated_date": token.created,
        "expiry_date": token.expiry,
        "last_used_date": token.last_used,
        "read_only": token.read_only,
        "owner": basic_user(ctx, token.owner),
    }


def new_access_token(ctx: Context, name: str, read_only: bool, expiry: str | None) -> AccessToken:
    state = ctx.state
    number, value = state.new_id("access token"), secrets.token_urlsafe(24)
    state.access_tokens[number] = AccessToken(number, ctx.user.id, name, value, read_only, state.now(), expiry)
    return state.access_tokens[number]


@route("POST", "/api/auth/access_tokens", since=50)
def create_access_token(ctx: Context) -> Reply:
    # facts/cvat.md (c) Auth: some doors are shut for tokens; that this is one of them is not in the facts
    if ctx.with_access_token:
        raise deny()
    body = ctx.json
    require(body, "name")
    token = new_access_token(ctx, body["name"], bool(body.get("read_only")), body.get("expiry_date"))
    # facts/cvat.md (c) Auth: the value is shown this once
    return Reply(201, {**_token_row(ctx, token), "value": token.value})


@route("GET", "/api/auth/access_tokens", since=50)
def list_access_tokens(ctx: Context) -> Reply:
    found = [token for token in ctx.state.access_tokens.values() if token.owner == ctx.user.id]
    return listing(ctx, found, {"id": lambda t: t.id}, lambda t: _token_row(ctx, t))


@route("DELETE", "/api/auth/access_tokens/{id}", since=50)
def delete_access_token(ctx: Context, number: int) -> Reply:
    token = ctx.state.access_tokens.get(number)
    if token is None or token.owner != ctx.user.id:
        raise ApiError(404, "Not found.")
    del ctx.state.access_tokens[number]
    return Reply(204)


def _org_row(ctx: Context, org: Organization) -> Row:
    names = {"id": org.id, "slug": org.slug, "name": org.slug, "description": "", "contact": {}}
    return {**names, "created_date": org.created, "updated_date": org.created, "owner": basic_user(ctx, org.owner)}


@route("GET", "/api/organizations")
def list_organizations(ctx: Context) -> Reply:
    state = ctx.state
    found = [o for o in state.orgs.values() if ctx.user.is_superuser or state.role(ctx.user.id, o.id)]
    return listing(ctx, found, {"id": lambda o: o.id, "slug": lambda o: o.slug}, lambda o: _org_row(ctx, o))


@route("GET", "/api/organizations/{id}")
def one_organization(ctx: Context, number: int) -> Reply:
    org = ctx.state.orgs.get(number)
    if org is None:
        raise ApiError(404, "Not found.")
    if not ctx.user.is_superuser and ctx.state.role(ctx.user.id, org.id) is None:
        raise deny()
    return Reply(200, _org_row(ctx, org))


@route("GET", "/api/memberships")
def list_memberships(ctx: Context) -> Reply:
    state = ctx.state
    found = [m for m in state.memberships.values() if ctx.org is None or m.org == ctx.org.id]
    if ctx.org is None and not ctx.user.is_superuser:
        found = [m for m in found if m.user == ctx.user.id]
    terms = {"id": lambda m: m.id, "role": lambda m: m.role, "user": lambda m: state.users[m.user].name}

    def render(m: Membership) -> Row:
        row = {"id": m.id, "user": basic_user(ctx, m.user), "organization": m.org, "is_active": True}
        return {**row, "joined_date": m.joined, "role": m.role, "invitation": None}

    return listing(ctx, found, terms, render)
