{{ landed('interactions') }}
