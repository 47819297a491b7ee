// Passkeys: the one thing that needs a script. Messages go where `data-passkey-says` stands.
const says = document.querySelector('[data-passkey-says]')

async function ask(path, body, csrf) {
  const headers = { 'content-type': 'application/json', ...(csrf ? { 'x-csrf-token': csrf } : {}) }
  const answer = await fetch(`/console/${path}`, { method: 'POST', headers, body: JSON.stringify(body) })
  const said = await answer.json()
  if (!answer.ok) throw new Error([said.error.message, said.error.hint].join(' ').trim())
  return said
}

async function make(path, body, csrf) {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(await ask(`${path}/options`, body, csrf))
  return (await navigator.credentials.create({ publicKey })).toJSON()
}

const named = () => document.querySelector('[data-passkey-name]')?.value ?? ''

const ways = {
  'sign-in': async ({ to }) => {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(await ask('sign-in/passkey/options', {}))
    const credential = (await navigator.credentials.get({ publicKey })).toJSON()
    return ask('sign-in/passkey', { credential, to })
  },
  invitation: async () => {
    const invitation = location.hash.slice(1)
    const credential = await make('invitation', { invitation })
    return ask('invitation/passkey', { credential, invitation, name: named() })
  },
  enrol: async ({ csrf }) => {
    const credential = await make('account/passkeys', {}, csrf)
    return ask('account/passkeys', { credential, name: named() }, csrf)
  },
}

for (const button of document.querySelectorAll('[data-passkey]')) {
  button.addEventListener('click', async () => {
    says.textContent = ''
    button.disabled = true
    try {
      if (!window.PublicKeyCredential?.parseCreationOptionsFromJSON) throw new Error('This browser knows no passkeys. Update it, or sign in another way.')
      location.assign((await ways[button.dataset.passkey](button.dataset)).to)
    } catch (error) {
      says.textContent = error.name === 'NotAllowedError' ? 'No passkey was chosen.' : error.name === 'InvalidStateError' ? 'This device has a passkey for you already.' : error.message
      button.disabled = false
      button.focus()
    }
  })
}
