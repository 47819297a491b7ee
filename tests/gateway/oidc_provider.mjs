// A real OpenID provider (npm: oidc-provider) on this machine, for tests: anyone signs in with any address.
// Prints its address as the first line. Arguments: the redirect address of the client.
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const found = createRequire(`${process.env.MODULES}/`).resolve('oidc-provider')
const { Provider } = await import(pathToFileURL(found))

const server = createServer()
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const issuer = `http://localhost:${server.address().port}`
const redirects = process.argv.slice(2)

const provider = new Provider(issuer, {
  clients: [
    { client_id: 'lathe', client_secret: 'a secret of 32 letters, or so: ok', redirect_uris: redirects },
    {
      client_id: 'lathe-public',
      redirect_uris: redirects,
      token_endpoint_auth_method: 'none',
      id_token_signed_response_alg: 'ES256',
    },
  ],
  claims: { openid: ['sub', 'acr', 'amr'], email: ['email', 'email_verified'], profile: ['name'] },
  acrValues: ['phr'],
  cookies: { keys: ['for tests'] },
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: `subject of ${id}`, email: id, email_verified: !id.startsWith('unverified'), name: id.split('@')[0] }),
  }),
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId })
    grant.addOIDCScope('openid email profile')
    await grant.save()
    return grant
  },
  jwks: { keys: [await key('RS256', 'r1'), await key('ES256', 'e1')] },
})

async function key(alg, kid) {
  const { generateKeyPair, exportJWK } = await import(
    pathToFileURL(createRequire(found).resolve('jose'))
  )
  const { privateKey } = await generateKeyPair(alg, { extractable: true })
  return { ...(await exportJWK(privateKey)), alg, kid, use: 'sig' }
}

const page = `<!doctype html><title>The provider</title><h1>The provider</h1>
<form method="post"><label>Address <input name="login" autofocus></label>
<label>Methods <input name="amr" value="pwd"></label><button>Sign in</button></form>`

const serve = provider.callback()
server.on('request', async (request, response) => {
  if (!request.url.startsWith('/interaction/')) return serve(request, response)
  if (request.method === 'GET') return response.setHeader('content-type', 'text/html').end(page)
  let body = ''
  for await (const part of request) body += part
  const form = new URLSearchParams(body)
  if (form.get('login') === '') {
    return provider.interactionFinished(request, response, { error: 'access_denied', error_description: 'said no' })
  }
  await provider.interactionFinished(request, response, {
    login: { accountId: form.get('login'), amr: form.get('amr').split(' '), acr: form.get('acr') || undefined },
  })
})
console.log(issuer)
